// Element types of the host kernels. bf16 lives as its bits; arithmetic is in fp32 and each result
// is rounded to nearest even, as libtorch does.
// For code outside of the kernels, which have their own copies (host_simd.h).
#pragma once

#include <cstdint>
#include <cstring>

namespace facet {

struct Bf16 {
  std::uint16_t bits = 0;
};

inline Bf16 to_bf16(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const bool nan = (bits & 0x7fffffffU) > 0x7f800000U;
  const std::uint32_t rounded = (bits + 0x7fffU + (bits >> 16 & 1U)) >> 16;
  return Bf16{static_cast<std::uint16_t>(nan ? 0x7fc0U : rounded)};
}

inline float to_float(Bf16 value) {
  const std::uint32_t bits = static_cast<std::uint32_t>(value.bits) << 16;
  float wide;
  std::memcpy(&wide, &bits, sizeof wide);
  return wide;
}

}  // namespace facet
