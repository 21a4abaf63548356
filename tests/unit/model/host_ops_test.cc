// Every compiled variant of the host kernels against plain double arithmetic.
#include "worker/model/host_ops.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/unit/model/host_values.h"
#include "worker/model/host_ops_variants.h"

namespace facet {
namespace {

template <class T>
constexpr double kTolerance = 3e-6;
template <>
constexpr double kTolerance<Bf16> = 1.2e-2;  // one and a half units in the last place

template <class T>
void expect_near(T got, double want, const char* what) {
  EXPECT_NEAR(value_of(got), want, kTolerance<T> * (1.0 + std::abs(want))) << what;
}

template <class T>
void check_ops(const HostOps<T>& ops) {
  for (const std::int64_t width : {1, 7, 16, 33, 160, 224}) {
    const auto n = static_cast<std::size_t>(width);
    const auto x = random_values<T>(3 * n, 1, 3.0F);
    const auto w = random_values<T>(n, 2);
    std::vector<T> out(3 * n);
    ops.rms_norm(x.data(), w.data(), out.data(), 3, width, 1e-6F);
    for (std::size_t row = 0; row < 3; ++row) {
      double sum = 0;
      for (std::size_t i = 0; i < n; ++i) sum += std::pow(value_of(x[row * n + i]), 2);
      const double scale = 1.0 / std::sqrt(sum / static_cast<double>(n) + 1e-6);
      for (std::size_t i = 0; i < n; ++i)
        expect_near(out[row * n + i], value_of(w[i]) * value_of(x[row * n + i]) * scale, "norm");
    }
    const auto gate_up = random_values<T>(6 * n, 3, 20.0F);
    ops.silu_mul(gate_up.data(), out.data(), 3, width);
    for (std::size_t row = 0; row < 3; ++row)
      for (std::size_t i = 0; i < n; ++i) {
        const double gate = value_of(gate_up[row * 2 * n + i]);
        expect_near(out[row * n + i],
                    gate / (1 + std::exp(-gate)) * value_of(gate_up[row * 2 * n + n + i]), "silu");
      }
    auto sum = x;
    ops.add_into(sum.data(), x.data(), 3 * width);
    for (std::size_t i = 0; i < sum.size(); ++i) expect_near(sum[i], 2.0 * value_of(x[i]), "add");
  }
}

template <class T>
void check_rope(const HostOps<T>& ops, bool fp32_inside) {
  constexpr std::size_t kHeads = 3;
  constexpr std::size_t kDim = 40;
  constexpr std::size_t kStride = kHeads * kDim + 5;
  const auto x = random_values<T>(2 * kStride, 4);
  const auto angles = random_values<float>(2 * kDim / 2, 5, 3.0F);
  std::vector<float> cos;
  std::vector<float> sin;
  for (const float angle : angles) {
    cos.push_back(std::cos(angle));
    sin.push_back(std::sin(angle));
  }
  auto turned = x;
  ops.rope(turned.data(), kStride, cos.data(), sin.data(), 2, kHeads, kDim, fp32_inside);
  for (std::size_t row = 0; row < 2; ++row)
    for (std::size_t head = 0; head < kHeads; ++head)
      for (std::size_t i = 0; i < kDim / 2; ++i) {
        const std::size_t low = row * kStride + head * kDim + i;
        const double a = value_of(x[low]);
        const double b = value_of(x[low + kDim / 2]);
        const std::size_t at = row * kDim / 2 + i;
        expect_near(turned[low], a * cos[at] - b * sin[at], "rope");
        expect_near(turned[low + kDim / 2], b * cos[at] + a * sin[at], "rope");
      }
  for (std::size_t i = kHeads * kDim; i < kStride; ++i)
    EXPECT_EQ(value_of(turned[i]), value_of(x[i])) << "beyond the heads";
}

template <class T>
void check_gelu(const HostOps<T>& ops) {
  auto x = random_values<T>(1001, 9, 3.0F);
  x[0] = make<T>(0.0F);
  x[1] = make<T>(40.0F);
  x[2] = make<T>(-40.0F);
  auto out = x;
  ops.gelu(out.data(), static_cast<std::int64_t>(out.size()));
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double value = value_of(x[i]);
    expect_near(out[i], value * 0.5 * std::erfc(-value / std::sqrt(2.0)), "gelu");
  }
}

void check_variant(const HostVariant& variant) {
  check_ops(*variant.ops_fp32);
  check_ops(*variant.ops_bf16);
  for (const bool fp32_inside : {false, true}) {
    check_rope(*variant.ops_fp32, fp32_inside);
    check_rope(*variant.ops_bf16, fp32_inside);
  }
  check_gelu(*variant.ops_fp32);
  check_gelu(*variant.ops_bf16);
}

TEST(HostOps, Base) {
  check_variant(kHostBase);
}

TEST(HostOps, Avx2) {
  if (has_avx2()) check_variant(kHostAvx2);
}

TEST(HostOps, Avx512) {
  if (has_avx512()) check_variant(kHostAvx512);
}

// A hidden state of zeros and one of large values must stay finite.
TEST(HostOps, ExtremesStayFinite) {
  const std::vector<float> zeros(8, 0.0F);
  std::vector<float> out(8);
  host_ops<float>().rms_norm(zeros.data(), zeros.data(), out.data(), 1, 8, 1e-6F);
  for (const float value : out) EXPECT_EQ(value, 0.0F);
  const std::vector<float> far{-1e4F, -200.0F, 200.0F, 1e4F, 1, 1, 1, 1};
  host_ops<float>().silu_mul(far.data(), out.data(), 1, 4);
  EXPECT_NEAR(out[0], 0.0F, 1e-30);
  EXPECT_NEAR(out[1], 0.0F, 1e-30);
  EXPECT_EQ(out[2], 200.0F);
  EXPECT_EQ(out[3], 1e4F);
}

}  // namespace
}  // namespace facet
