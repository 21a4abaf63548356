// Bodies of host_ops.h, compiled once per instruction set (host_ops_*.cc). Everything is in an
// unnamed namespace, so that no inline function compiled for a newer CPU serves an older one.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "worker/model/host_ops.h"

namespace facet {
namespace {

inline float load(float x) {
  return x;
}
inline float load(Bf16 x) {
  const std::uint32_t bits = static_cast<std::uint32_t>(x.bits) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

template <class T>
T store(float x);
template <>
inline float store<float>(float x) {
  return x;
}
template <>
inline Bf16 store<Bf16>(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const std::uint32_t rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
  const bool nan = (bits & 0x7fffffffU) > 0x7f800000U;
  return Bf16{static_cast<std::uint16_t>(nan ? 0x7fc0U : rounded)};
}

// x rounded to T and read back.
template <class T>
inline float round_to(float x) {
  return load(store<T>(x));
}

// e^x to about 1 ulp: 2^n * e^r with n = round(x / ln 2) and r = x - n ln 2, |r| <= ln 2 / 2, where
// the Taylor polynomial to r^7 is off by less than an ulp. ln 2 is subtracted in two parts, of
// which the first has so few bits that n times it is exact.
inline float fast_exp(float x) {
  x = std::min(std::max(x, -87.3F), 88.7F);
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer
  const float n = (x * 1.44269504F + kRound) - kRound;
  const float r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
  float p = 1.0F / 5040.0F;
  p = p * r + 1.0F / 720.0F;
  p = p * r + 1.0F / 120.0F;
  p = p * r + 1.0F / 24.0F;
  p = p * r + 1.0F / 6.0F;
  p = p * r + 0.5F;
  const float e = 1.0F + (r + p * r * r);
  const auto power = static_cast<std::uint32_t>(static_cast<std::int32_t>(n) + 127) << 23;
  float scale;
  std::memcpy(&scale, &power, sizeof scale);
  return e * scale;
}

constexpr std::int64_t kLanes = 16;  // independent sums, so that the loop can be vectorized

template <class T>
float sum_of_squares(const T* x, std::int64_t count) {
  float sums[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    for (std::int64_t lane = 0; lane < kLanes; ++lane)
      sums[lane] += load(x[i + lane]) * load(x[i + lane]);
  float sum = 0.0F;
  for (; i < count; ++i) sum += load(x[i]) * load(x[i]);
  for (std::int64_t step = kLanes / 2; step > 0; step /= 2)
    for (std::int64_t lane = 0; lane < step; ++lane) sums[lane] += sums[lane + step];
  return sum + sums[0];
}

template <class T>
void rms_norm(const T* x, const T* w, T* out, std::int64_t rows, std::int64_t width, float eps) {
  for (std::int64_t row = 0; row < rows; ++row, x += width, out += width) {
    const float mean = sum_of_squares(x, width) / static_cast<float>(width);
    const float scale = 1.0F / std::sqrt(mean + eps);
    for (std::int64_t i = 0; i < width; ++i)
      out[i] = store<T>(load(w[i]) * round_to<T>(load(x[i]) * scale));
  }
}

template <class T>
void add_into(T* residual, const T* x, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) residual[i] = store<T>(load(residual[i]) + load(x[i]));
}

template <class T>
void silu_mul(const T* gate_up, T* out, std::int64_t rows, std::int64_t width) {
  for (std::int64_t row = 0; row < rows; ++row, gate_up += 2 * width, out += width) {
    const T* up = gate_up + width;
    for (std::int64_t i = 0; i < width; ++i) {
      const float gate = load(gate_up[i]);
      out[i] = store<T>(round_to<T>(gate / (1.0F + fast_exp(-gate))) * load(up[i]));
    }
  }
}

// The error function as 1 - (a1 t + .. + a5 t^5) e^(-z^2), t = 1 / (1 + p z): formula 7.1.26 of
// Abramowitz and Stegun.
template <class T>
void gelu(T* x, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    const float value = load(x[i]);
    const float z = std::abs(value) * 0.70710678F;
    const float t = 1.0F / (1.0F + 0.3275911F * z);
    float p = 1.061405429F;
    p = p * t - 1.453152027F;
    p = p * t + 1.421413741F;
    p = p * t - 0.284496736F;
    p = p * t + 0.254829592F;
    const float tail = 0.5F * p * t * fast_exp(-z * z);  // beyond |x|, on one side
    x[i] = store<T>(value * (value < 0.0F ? tail : 1.0F - tail));
  }
}

template <class T>
void rope(T* x, std::int64_t row_stride, const float* cos, const float* sin, std::int64_t rows,
          std::int64_t heads, std::int64_t head_dim, bool fp32_inside) {
  const std::int64_t half = head_dim / 2;
  for (std::int64_t row = 0; row < rows; ++row, x += row_stride, cos += half, sin += half) {
    for (std::int64_t head = 0; head < heads; ++head) {
      T* low = x + head * head_dim;
      T* high = low + half;
      if (fp32_inside) {
        for (std::int64_t i = 0; i < half; ++i) {
          const float a = load(low[i]);
          const float b = load(high[i]);
          low[i] = store<T>(a * cos[i] - b * sin[i]);
          high[i] = store<T>(b * cos[i] + a * sin[i]);
        }
      } else {
        for (std::int64_t i = 0; i < half; ++i) {
          const float a = load(low[i]);
          const float b = load(high[i]);
          const float c = round_to<T>(cos[i]);
          const float s = round_to<T>(sin[i]);
          low[i] = store<T>(round_to<T>(a * c) - round_to<T>(b * s));
          high[i] = store<T>(round_to<T>(b * c) + round_to<T>(a * s));
        }
      }
    }
  }
}

template <class T>
constexpr HostOps<T> kOps{rms_norm<T>, add_into<T>, silu_mul<T>, gelu<T>, rope<T>};

}  // namespace
}  // namespace facet
