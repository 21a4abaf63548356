// Resize and patches against worker/image, bit for bit.
#include "kernels/image/image_patches.h"

#include <gtest/gtest.h>

#include <optional>
#include <random>

#include "tests/gpu/device_data.h"
#include "worker/image/qwen_patches.h"
#include "worker/image/resize_weights.h"

namespace facet::kernels {
namespace {

// Weights of an axis in device memory; empty where it keeps its size.
struct DeviceAxis {
  std::optional<DeviceBytes> begin, count, weights;
  ResizeAxis axis;

  DeviceAxis(std::int64_t input, std::int64_t output) {
    if (input == output) return;
    const ResizeWeights host = bicubic_weights(input, output);
    begin.emplace(upload_raw(host.begin));
    count.emplace(upload_raw(host.count));
    weights.emplace(upload_raw(host.weights));
    axis.begin = static_cast<const std::int32_t*>(begin->get());
    axis.count = static_cast<const std::int32_t*>(count->get());
    axis.weights = static_cast<const std::int16_t*>(weights->get());
    axis.num_taps = static_cast<std::int32_t>(host.num_taps);
    axis.precision = static_cast<std::int32_t>(host.precision);
  }
};

// The value of each byte as write_qwen_patches() makes it.
std::vector<float> values_of(const QwenImageSettings& settings) {
  std::vector<float> values;
  const auto factor = static_cast<float>(1.0 / settings.rescale_factor);
  for (std::size_t channel = 0; channel < 3; ++channel)
    for (int byte = 0; byte < 256; ++byte)
      values.push_back(
          (static_cast<float>(byte) - static_cast<float>(settings.mean[channel]) * factor) /
          (static_cast<float>(settings.std_dev[channel]) * factor));
  return values;
}

void compare(ImageSize size, const QwenImageSettings& settings, std::size_t padding) {
  std::mt19937 random(next_seed());
  const std::size_t stride = static_cast<std::size_t>(size.width) * 3 + padding;
  std::vector<std::uint8_t> pixels(stride * static_cast<std::size_t>(size.height));
  for (auto& byte : pixels)  // extremes, too: overshoot has to be clamped
    byte = static_cast<std::uint8_t>(random() % 4 == 0 ? (random() % 2) * 255 : random() % 256);
  const auto plan = plan_qwen_image(size, settings);
  ASSERT_TRUE(plan) << size.height << "x" << size.width;
  const auto total = static_cast<std::size_t>(plan->num_floats());
  std::vector<float> want(total);
  write_qwen_patches({pixels.data(), size, stride}, settings, *plan, want);

  const DeviceBytes input = upload_raw(pixels), table = upload_raw(values_of(settings));
  const DeviceAxis x(size.width, plan->resized.width), y(size.height, plan->resized.height);
  const DeviceBytes scratch(static_cast<std::size_t>(size.height * plan->resized.width) * 3);
  ImageJob job;
  job.pixels = static_cast<const std::uint8_t*>(input.get());
  job.stride_bytes = static_cast<std::int64_t>(stride);
  job.height = static_cast<std::int32_t>(size.height);
  job.width = static_cast<std::int32_t>(size.width);
  job.resized_height = static_cast<std::int32_t>(plan->resized.height);
  job.resized_width = static_cast<std::int32_t>(plan->resized.width);
  job.x = x.axis;
  job.y = y.axis;
  job.scratch = static_cast<std::uint8_t*>(scratch.get());
  PatchSettings patches;
  patches.patch_size = static_cast<std::int32_t>(settings.patch_size);
  patches.temporal_patch_size = static_cast<std::int32_t>(settings.temporal_patch_size);
  patches.merge_size = static_cast<std::int32_t>(settings.merge_size);
  patches.values = static_cast<const float*>(table.get());
  for (const DType dtype : {DType::kFp32, DType::kBf16, DType::kFp16}) {
    patches.dtype = dtype;
    const DeviceBytes out(total * size_of(dtype));
    Launch launch;
    launch.programmatic = dtype != DType::kFp16;
    FACET_CUDA_OK(image_patches(job, patches, out.get(), launch));
    FACET_CUDA_OK(cudaDeviceSynchronize());
    std::vector<float> rounded = want;
    for (float& value : rounded) value = round_to(dtype, value);
    expect_same_bits("image_patches " + name_of(dtype) + " " + std::to_string(size.height) + "x" +
                         std::to_string(size.width) + " to " +
                         std::to_string(plan->resized.height) + "x" +
                         std::to_string(plan->resized.width),
                     download(dtype, out, total), rounded);
  }
}

TEST(ImagePatches, EqualTheProcessor) {
  const QwenImageSettings settings;
  for (const ImageSize size :
       {ImageSize{56, 56}, ImageSize{57, 56}, ImageSize{56, 61}, ImageSize{3, 5}, ImageSize{1, 40},
        ImageSize{480, 640}, ImageSize{1080, 1920}, ImageSize{2111, 3001}, ImageSize{28, 2800}})
    for (const std::size_t padding : {0, 7}) compare(size, settings, padding);
}

TEST(ImagePatches, OtherSettings) {
  QwenImageSettings settings;
  settings.patch_size = 16;
  settings.temporal_patch_size = 1;
  settings.merge_size = 1;
  compare({333, 217}, settings, 0);
  settings.patch_size = 8;
  settings.temporal_patch_size = 3;
  settings.merge_size = 3;
  compare({333, 217}, settings, 1);
}

TEST(ImagePatches, RefusesWhatItCannotDo) {
  const DeviceBytes memory(1 << 16);
  ImageJob job;
  job.pixels = static_cast<const std::uint8_t*>(memory.get());
  job.height = job.width = job.resized_height = job.resized_width = 56;
  job.stride_bytes = 168;
  PatchSettings settings;
  settings.values = static_cast<const float*>(memory.get());
  const auto refused = [&](const ImageJob& bad) {
    return image_patches(bad, settings, memory.get(), {}) == cudaErrorInvalidValue;
  };
  ImageJob bad = job;
  bad.resized_width = 84;  // another size without weights
  EXPECT_TRUE(refused(bad));
  bad = job;
  bad.resized_height = bad.height = 57;  // no whole patches
  EXPECT_TRUE(refused(bad));
  bad = job;
  bad.stride_bytes = 167;
  EXPECT_TRUE(refused(bad));
  bad = job;
  bad.x.begin = bad.x.count = static_cast<const std::int32_t*>(memory.get());
  bad.x.weights = static_cast<const std::int16_t*>(memory.get());
  bad.x.num_taps = 8;
  bad.x.precision = 14;  // weights, but no scratch
  EXPECT_TRUE(refused(bad));
}

}  // namespace
}  // namespace facet::kernels
