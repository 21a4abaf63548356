// The decode step's matrix product against double sums, and that a row's bits do not depend on the
// other rows.
#include "kernels/linear/gemv.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/gpu/device_data.h"

namespace facet::kernels {
namespace {

using Size = std::size_t;

struct Case {
  int m, n, k;
  GemvEpilogue epilogue;
  bool norm, bias;
  DType dtype = DType::kBf16;
};

std::string name_of(const Case& c) {
  static const char* const kEpilogues[] = {"store", "add", "silu"};
  return "gemv " + kernels::name_of(c.dtype) + " " + std::to_string(c.m) + " x " +
         std::to_string(c.n) + " x " + std::to_string(c.k) + " " +
         kEpilogues[static_cast<int>(c.epilogue)] + (c.norm ? " norm" : "") +
         (c.bias ? " bias" : "");
}

struct Data {
  std::vector<float> x, norm, weight, bias, out;
};

Data make_data(const Case& c) {
  const Size m = static_cast<Size>(c.m), n = static_cast<Size>(c.n), k = static_cast<Size>(c.k);
  const float scale = 1.0F / std::sqrt(static_cast<float>(c.k));
  return {random_values(c.dtype, m * (k + 16), 2.0F), random_values(c.dtype, k),
          random_values(c.dtype, n * k, scale), random_values(c.dtype, n),
          random_values(c.dtype, m * (n + 8), 3.0F)};
}

// x as the product sees it: normed, rounded.
std::vector<float> input_of(const Case& c, const Data& data) {
  const Size m = static_cast<Size>(c.m), k = static_cast<Size>(c.k);
  std::vector<float> x(m * k);
  for (Size row = 0; row < m; ++row) {
    const float* from = data.x.data() + row * (k + 16);
    double sum = 0;
    for (Size i = 0; i < k; ++i) sum += static_cast<double>(from[i]) * from[i];
    const auto scale = static_cast<float>(1.0 / std::sqrt(sum / static_cast<double>(k) + 1e-6));
    for (Size i = 0; i < k; ++i)
      x[row * k + i] =
          c.norm ? round_to(c.dtype, data.norm[i] * round_to(c.dtype, from[i] * scale)) : from[i];
  }
  return x;
}

std::vector<double> oracle(const Case& c, const Data& data) {
  const Size m = static_cast<Size>(c.m), n = static_cast<Size>(c.n), k = static_cast<Size>(c.k);
  const auto r = [&](double v) {
    return static_cast<double>(round_to(c.dtype, static_cast<float>(v)));
  };
  const std::vector<float> x = input_of(c, data);
  const bool silu = c.epilogue == GemvEpilogue::kSiluMul;
  const Size width = silu ? n / 2 : n;
  std::vector<double> out;
  for (Size row = 0; row < m; ++row) {
    std::vector<double> sums(n);
    for (Size col = 0; col < n; ++col) {
      double sum = c.bias ? data.bias[col] : 0.0;
      for (Size i = 0; i < k; ++i)
        sum += static_cast<double>(x[row * k + i]) * data.weight[col * k + i];
      sums[col] = r(sum);
    }
    for (Size col = 0; col < width; ++col) {
      if (silu)
        out.push_back(r(r(sums[col] / (1 + std::exp(-sums[col]))) * sums[width + col]));
      else if (c.epilogue == GemvEpilogue::kAddInto)
        out.push_back(r(data.out[row * (n + 8) + col] + sums[col]));
      else
        out.push_back(sums[col]);
    }
  }
  return out;
}

// The rows of the kernel's output; rows from `rows` on are not computed.
std::vector<float> compute(const Case& c, const Data& data, int rows) {
  const Size n = static_cast<Size>(c.n), k = static_cast<Size>(c.k);
  const DeviceBytes x = upload(c.dtype, data.x), norm = upload(c.dtype, data.norm);
  const DeviceBytes weight = upload(c.dtype, data.weight), bias = upload(c.dtype, data.bias);
  DeviceBytes out = upload(c.dtype, data.out);
  if (c.epilogue != GemvEpilogue::kAddInto) out.poison();
  const GemvShape shape{rows, c.n, c.k, c.epilogue, 1e-6F, c.dtype};
  const GemvArgs args{x.get(),
                      static_cast<std::int64_t>(k + 16),
                      c.norm ? norm.get() : nullptr,
                      weight.get(),
                      c.bias ? bias.get() : nullptr,
                      out.get(),
                      static_cast<std::int64_t>(n + 8)};
  check_cuda(gemv(shape, args, {}), "gemv");
  check_cuda(cudaDeviceSynchronize(), name_of(c).c_str());
  const auto all = download(c.dtype, out, data.out.size());
  const Size width = c.epilogue == GemvEpilogue::kSiluMul ? n / 2 : n;
  std::vector<float> got;
  for (Size row = 0; row < static_cast<Size>(rows); ++row)
    got.insert(got.end(), all.begin() + static_cast<std::ptrdiff_t>(row * (n + 8)),
               all.begin() + static_cast<std::ptrdiff_t>(row * (n + 8) + width));
  for (Size row = 0; row < static_cast<Size>(c.m); ++row)
    for (Size i = row < static_cast<Size>(rows) ? width : 0; i < n + 8; ++i) {
      const float kept = all[row * (n + 8) + i];
      const float old = data.out[row * (n + 8) + i];
      const bool as_it_was = c.epilogue == GemvEpilogue::kAddInto ? kept == old : std::isnan(kept);
      if (!as_it_was) ADD_FAILURE() << name_of(c) << ": wrote behind its rows";
      if (!as_it_was) return got;
    }
  return got;
}

void check(const Case& c) {
  const Data data = make_data(c);
  const Tolerance ulp = one_ulp(c.dtype);
  // A product at a tie may round the other way by one place; a residual that cancels it leaves that
  // place as an absolute error. Products here stay below 4.
  const double product = c.epilogue == GemvEpilogue::kAddInto ? 4.0 : 1.0;
  expect_close(name_of(c), compute(c, data, c.m), oracle(c, data),
               {ulp.relative * 3, product * ulp.relative});
}

TEST(Gemv, EqualsDoubleSums) {
  using E = GemvEpilogue;
  for (const int m : {1, 2, 3, 4}) {
    check({m, 1000, 3584, E::kStore, true, true, DType::kFp16});
    check({m, 700, 18944, E::kAddInto, false, false, DType::kFp16});
    check({m, 1280, 224, E::kSiluMul, true, false, DType::kFp16});
    check({m, 515, 1032, E::kStore, false, true, DType::kFp16});
  }
  for (const int m : {1, 2, 3, 4}) {
    check({m, 4608, 3584, E::kStore, false, true});
    check({m, 1000, 3584, E::kStore, true, true});
    check({m, 333, 2048, E::kAddInto, false, false});
    check({m, 1280, 224, E::kSiluMul, true, false});
    check({m, 288, 224, E::kStore, true, false});
    check({m, 224, 640, E::kAddInto, false, true});
    check({m, 700, 18944, E::kAddInto, false, false});
    check({m, 2, 8, E::kSiluMul, false, true});
    check({m, 515, 1032, E::kStore, true, true});
    check({m, 22016, 2048, E::kSiluMul, true, false});
  }
  check({1, 37888, 3584, E::kSiluMul, true, false});
  check({1, 1, 8192, E::kStore, true, false});
  check({2, 1058, 5128, E::kSiluMul, false, true});
}

TEST(Gemv, ARowDoesNotDependOnTheOthers) {
  for (const bool norm : {true, false}) {
    const DType dtype = norm ? DType::kBf16 : DType::kFp16;
    const Case c{4, 900, 2048, GemvEpilogue::kAddInto, norm, true, dtype};
    const Data data = make_data(c);
    const Size width = static_cast<Size>(c.n);
    const auto alone = compute(c, data, 1);
    for (const int rows : {2, 3, 4}) {
      auto together = compute(c, data, rows);
      together.resize(width);
      expect_same_bits("row 0 of " + std::to_string(rows) + (norm ? ", norm" : ""), together,
                       alone);
    }
  }
}

TEST(Gemv, RefusesShapesOutsideOfItsContract) {
  EXPECT_EQ(cudaErrorInvalidValue, gemv({1, 8, 12, GemvEpilogue::kStore, 1e-6F}, {}, {}));
  EXPECT_EQ(cudaErrorInvalidValue, gemv({5, 8, 16, GemvEpilogue::kStore, 1e-6F}, {}, {}));
  EXPECT_EQ(cudaErrorInvalidValue, gemv({1, 7, 16, GemvEpilogue::kSiluMul, 1e-6F}, {}, {}));
  EXPECT_EQ(cudaErrorInvalidValue,
            gemv({1, 8, 16, GemvEpilogue::kStore, 1e-6F, DType::kFp32}, {}, {}));
  EXPECT_FALSE(gemv_fits({1, 8, 18944, GemvEpilogue::kStore, 1e-6F}, true));
  EXPECT_FALSE(gemv_fits({4, 8, 8192, GemvEpilogue::kStore, 1e-6F}, true));
  EXPECT_TRUE(gemv_fits({4, 8, 18944, GemvEpilogue::kStore, 1e-6F}, false));
}

}  // namespace
}  // namespace facet::kernels
