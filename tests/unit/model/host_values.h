// Values for the host kernels, their rounding apart from worker/model/host_float.h, and which
// compiled variants this machine can run.
#pragma once

#include <bit>
#include <cstdint>
#include <random>
#include <vector>

#include "worker/model/host_float.h"

namespace facet {

inline float value_of(float x) {
  return x;
}
inline float value_of(Bf16 x) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16);
}

template <class T>
T make(float x);
template <>
inline float make<float>(float x) {
  return x;
}
template <>
inline Bf16 make<Bf16>(float x) {  // round to nearest even
  const auto bits = std::bit_cast<std::uint32_t>(x);
  return Bf16{static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16)};
}

template <class T>
std::vector<T> random_values(std::size_t count, std::uint32_t seed, float scale = 1.0F) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, scale);
  std::vector<T> values(count);
  for (T& value : values) value = make<T>(normal(random));
  return values;
}

// Of kHostAvx2 and kHostAvx512.
inline bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
inline bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

}  // namespace facet
