// Every value of every stored type, by all ways that the code has, against torch's own conversion.
#include "worker/model/cuda/weight_convert.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace facet {
namespace {

using kernels::DType;

template <class T>
std::vector<std::byte> bytes_of(const std::vector<T>& values, std::size_t shift) {
  std::vector<std::byte> bytes(values.size() * sizeof(T) + shift);
  std::memcpy(bytes.data() + shift, values.data(), values.size() * sizeof(T));
  return bytes;
}

template <class To, class From>
std::vector<To> converted(TensorDtype stored, DType type, const std::vector<From>& values,
                          std::optional<UnfitValue>& unfit, std::size_t shift = 0) {
  const auto from = bytes_of(values, shift);
  std::vector<To> out(values.size());
  unfit =
      convert_values(stored, from.data() + shift, type, reinterpret_cast<std::byte*>(out.data()),
                     static_cast<std::int64_t>(values.size()));
  return out;
}

std::vector<c10::BFloat16> all_bf16() {
  std::vector<c10::BFloat16> values;
  for (unsigned bits = 0; bits < 1U << 16; ++bits)
    values.emplace_back(static_cast<std::uint16_t>(bits), c10::BFloat16::from_bits());
  return values;
}

bool same(c10::Half got, float wanted) {
  const c10::Half half = static_cast<c10::Half>(wanted);
  if (std::isnan(wanted)) return std::isnan(static_cast<float>(got));
  return got.x == half.x;  // both zeros are told apart
}

TEST(WeightConvert, EveryBf16ToFp16AsTorchDoes) {
  auto values = all_bf16();
  values.resize(values.size() - 3);  // a tail that fills no vector
  for (const std::size_t shift : {0U, 1U, 5U}) {
    std::optional<UnfitValue> unfit;
    const auto got = converted<c10::Half>(TensorDtype::kBf16, DType::kFp16, values, unfit, shift);
    ASSERT_TRUE(unfit);
    EXPECT_EQ(unfit->index, 0x4780);
    EXPECT_EQ(unfit->value, 65536.0F);
    for (std::size_t i = 0; i < values.size(); ++i)
      ASSERT_TRUE(same(got[i], static_cast<float>(values[i]))) << i;
  }
}

TEST(WeightConvert, Fp32ToFp16) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<float> values{
      0.0F,          -0.0F,      1.0F / 3.0F, 65504.0F,       -65519.99F,
      6e-8F,         2.9e-8F,    -2.99e-8F,   6.1e-5F,        1e-30F,
      kInfinity,     -kInfinity, NAN,         1.00048828125F,  // a tie: to even
      1.00146484375F};
  std::optional<UnfitValue> unfit;
  auto got = converted<c10::Half>(TensorDtype::kF32, DType::kFp16, values, unfit, 2);
  EXPECT_FALSE(unfit) << unfit->value;  // what is infinite was so before
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_TRUE(same(got[i], values[i])) << i;
  EXPECT_EQ(got[4].x, 0xfbff);
  EXPECT_EQ(got[5].x, 1);  // the smallest subnormal number
  EXPECT_EQ(got[6].x, 0);
  EXPECT_EQ(got[13].x, 0x3c00);
  EXPECT_EQ(got[14].x, 0x3c02);
  for (const float large : {65520.0F, -65520.0F, 1e30F}) {
    values[7] = large;
    got = converted<c10::Half>(TensorDtype::kF32, DType::kFp16, values, unfit);
    ASSERT_TRUE(unfit);
    EXPECT_EQ(unfit->index, 7);
    EXPECT_EQ(unfit->value, large);
  }
}

// Large enough for several threads, which find theirs in any order.
TEST(WeightConvert, TheFirstOfManyThatDoNotFit) {
  std::vector<c10::BFloat16> values(3'000'001, static_cast<c10::BFloat16>(0.5F));
  std::optional<UnfitValue> unfit;
  converted<c10::Half>(TensorDtype::kBf16, DType::kFp16, values, unfit);
  EXPECT_FALSE(unfit);
  for (std::size_t at : {3'000'000U, 2'900'001U, 1'700'003U, 700'000U, 699'999U}) {
    values[at] = -70000.0F;
    converted<c10::Half>(TensorDtype::kBf16, DType::kFp16, values, unfit);
    ASSERT_TRUE(unfit);
    EXPECT_EQ(unfit->index, at);
    EXPECT_EQ(unfit->value, static_cast<float>(values[at]));
  }
}

TEST(WeightConvert, NothingIsUnfitElsewhere) {
  const auto values = all_bf16();
  std::optional<UnfitValue> unfit;
  const auto wide = converted<float>(TensorDtype::kBf16, DType::kFp32, values, unfit, 1);
  EXPECT_FALSE(unfit);
  for (std::size_t i = 0; i < values.size(); ++i)
    ASSERT_EQ(std::bit_cast<std::uint32_t>(wide[i]), static_cast<std::uint32_t>(i) << 16);
  const auto again = converted<c10::BFloat16>(TensorDtype::kF32, DType::kBf16, wide, unfit);
  EXPECT_FALSE(unfit);
  const auto copied = converted<c10::BFloat16>(TensorDtype::kBf16, DType::kBf16, values, unfit, 3);
  EXPECT_FALSE(unfit);
  for (std::size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(copied[i].x, i);
    if (!std::isnan(wide[i])) {
      ASSERT_EQ(again[i].x, i);
    }
  }
  std::vector<std::uint16_t> halves(1U << 16);
  for (std::size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<std::uint16_t>(i);
  EXPECT_EQ(converted<std::uint16_t>(TensorDtype::kF16, DType::kFp16, halves, unfit, 1), halves);
  EXPECT_FALSE(unfit);
}

}  // namespace
}  // namespace facet
