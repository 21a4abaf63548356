// Gelu and the angles of patches against plain double arithmetic.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "kernels/activation/gelu.h"
#include "kernels/rope/vision_angles.h"
#include "tests/gpu/device_data.h"

namespace facet::kernels {
namespace {

using Size = std::size_t;

TEST(VisionOps, Gelu) {
  for (const DType dtype : {DType::kBf16, DType::kFp16, DType::kFp32})
    for (const Size count : {1, 255, 256, 257, 5120 * 37}) {
      auto x = random_values(dtype, count, 3.0F);
      if (count > 8) {  // far from the middle it is the value itself, or nothing
        const float edges[] = {0.0F, -0.0F, 100.0F, -100.0F, 1e-4F, -1e-4F, 5.0F, -5.0F};
        for (Size i = 0; i < std::size(edges); ++i) x[i] = round_to(dtype, edges[i]);
      }
      const DeviceBytes data = upload(dtype, x);
      FACET_CUDA_OK(gelu(dtype, data.get(), static_cast<std::int64_t>(count), {}));
      FACET_CUDA_OK(cudaDeviceSynchronize());
      std::vector<double> want(count);
      for (Size i = 0; i < count; ++i) want[i] = 0.5 * x[i] * (1.0 + std::erf(x[i] / std::sqrt(2)));
      expect_close("gelu " + name_of(dtype) + " " + std::to_string(count),
                   download(dtype, data, count), want, one_ulp(dtype));
    }
}

TEST(VisionOps, GeluWritesNoFurther) {
  const DeviceBytes data(1000 * 4);
  FACET_CUDA_OK(cudaMemset(data.get(), 0, 700 * 4));
  FACET_CUDA_OK(gelu(DType::kFp32, data.get(), 700, {}));
  FACET_CUDA_OK(cudaDeviceSynchronize());
  const auto after = download_raw<std::int32_t>(data, 1000);
  for (Size i = 0; i < after.size(); ++i) ASSERT_EQ(after[i], i < 700 ? 0 : -1) << i;
  EXPECT_EQ(gelu(DType::kFp32, data.get(), -1, {}), cudaErrorInvalidValue);
}

TEST(VisionOps, Angles) {
  std::mt19937 random(next_seed());
  for (const int pairs : {2, 12, 40, 64})
    for (const Size patches : {1, 63, 4900}) {
      const int places = 200, half = pairs / 2;
      std::vector<float> cosines, sines;
      for (int place = 0; place < places; ++place)
        for (int i = 0; i < half; ++i) {
          const double angle = place * std::pow(10000.0, -double{1} * i / half);
          cosines.push_back(static_cast<float>(std::cos(angle)));
          sines.push_back(static_cast<float>(std::sin(angle)));
        }
      std::vector<std::int32_t> rows(patches), columns(patches);
      for (auto& row : rows) row = static_cast<std::int32_t>(random() % places);
      for (auto& column : columns) column = static_cast<std::int32_t>(random() % places);
      const DeviceBytes dcos = upload_raw(cosines), dsin = upload_raw(sines);
      const DeviceBytes drows = upload_raw(rows), dcolumns = upload_raw(columns);
      const Size count = patches * static_cast<Size>(pairs);
      const DeviceBytes cos(count * 4), sin(count * 4);
      VisionAnglesArgs args;
      args.cos_table = static_cast<const float*>(dcos.get());
      args.sin_table = static_cast<const float*>(dsin.get());
      args.rows = static_cast<const std::int32_t*>(drows.get());
      args.columns = static_cast<const std::int32_t*>(dcolumns.get());
      args.cos = static_cast<float*>(cos.get());
      args.sin = static_cast<float*>(sin.get());
      FACET_CUDA_OK(vision_angles(args, static_cast<std::int64_t>(patches), pairs, {}));
      FACET_CUDA_OK(cudaDeviceSynchronize());
      std::vector<float> want_cos, want_sin;
      for (Size patch = 0; patch < patches; ++patch)
        for (int pair = 0; pair < pairs; ++pair) {
          const int place = pair < half ? rows[patch] : columns[patch];
          const auto at = static_cast<Size>(place * half + pair % half);
          want_cos.push_back(cosines[at]);
          want_sin.push_back(sines[at]);
        }
      const std::string name = std::to_string(patches) + " patches, " + std::to_string(pairs);
      expect_same_bits("cosines of " + name, download(DType::kFp32, cos, count), want_cos);
      expect_same_bits("sines of " + name, download(DType::kFp32, sin, count), want_sin);
    }
  EXPECT_EQ(vision_angles({}, 4, 3, {}), cudaErrorInvalidValue);
  EXPECT_EQ(vision_angles({}, -1, 4, {}), cudaErrorInvalidValue);
}

}  // namespace
}  // namespace facet::kernels
