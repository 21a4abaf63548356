// Bodies of host_ops.h, compiled once per instruction set (host_ops_*.cc). Everything is in an
// unnamed namespace, so that no inline function compiled for a newer CPU serves an older one.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "worker/model/host_ops.h"
#include "worker/model/host_simd.h"

namespace facet {
namespace {

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
    const Lanes scale = lanes_all(1.0F / std::sqrt(mean + eps));
    for_lanes(width, [&](std::int64_t i, auto... count) {
      const Lanes normed = lanes_round_to<T>(lanes_mul(lanes_load(x + i, count...), scale));
      lanes_store(out + i, lanes_mul(lanes_load(w + i, count...), normed), count...);
    });
  }
}

template <class T>
void add_into(T* residual, const T* x, std::int64_t count) {
  for_lanes(count, [&](std::int64_t i, auto... part) {
    const Lanes sum = lanes_add(lanes_load(residual + i, part...), lanes_load(x + i, part...));
    lanes_store(residual + i, sum, part...);
  });
}

inline Lanes lanes_silu(Lanes x) {
  const Lanes e = lanes_exp(lanes_sub(lanes_zero(), x));
  return lanes_div(x, lanes_add(lanes_all(1.0F), e));
}

template <class T>
void silu_mul(const T* gate_up, T* out, std::int64_t rows, std::int64_t width) {
  for (std::int64_t row = 0; row < rows; ++row, gate_up += 2 * width, out += width) {
    const T* up = gate_up + width;
    for_lanes(width, [&](std::int64_t i, auto... count) {
      const Lanes gate = lanes_round_to<T>(lanes_silu(lanes_load(gate_up + i, count...)));
      lanes_store(out + i, lanes_mul(gate, lanes_load(up + i, count...)), count...);
    });
  }
}

// The error function as 1 - (a1 t + .. + a5 t^5) e^(-z^2), t = 1 / (1 + p z): formula 7.1.26 of
// Abramowitz and Stegun. Of a negative x the part beyond it is what counts, else 1 less that.
inline Lanes lanes_gelu(Lanes x) {
  const Lanes minus = lanes_sub(lanes_zero(), x);
  const Lanes z = lanes_mul(lanes_max(minus, x), lanes_all(0.70710678F));
  const Lanes one = lanes_all(1.0F);
  const Lanes t = lanes_div(one, lanes_fma(lanes_all(0.3275911F), z, one));
  Lanes p = lanes_fma(lanes_all(1.061405429F), t, lanes_all(-1.453152027F));
  p = lanes_fma(p, t, lanes_all(1.421413741F));
  p = lanes_fma(p, t, lanes_all(-0.284496736F));
  p = lanes_fma(p, t, lanes_all(0.254829592F));
  const Lanes e = lanes_exp(lanes_mul(lanes_sub(lanes_zero(), z), z));
  const Lanes tail = lanes_mul(lanes_mul(lanes_mul(lanes_all(0.5F), p), t), e);
  // max(x, 0) - |x| * tail, which is x * tail below 0 and x * (1 - tail) above.
  const Lanes size = lanes_max(minus, x);
  return lanes_sub(lanes_max(lanes_zero(), x), lanes_mul(size, tail));
}

template <class T>
void gelu(T* x, std::int64_t count) {
  for_lanes(count, [&](std::int64_t i, auto... part) {
    lanes_store(x + i, lanes_gelu(lanes_load(x + i, part...)), part...);
  });
}

template <class T>
void rope(T* x, std::int64_t row_stride, const float* cos, const float* sin, std::int64_t rows,
          std::int64_t heads, std::int64_t head_dim, bool fp32_inside) {
  const std::int64_t half = head_dim / 2;
  for (std::int64_t row = 0; row < rows; ++row, x += row_stride, cos += half, sin += half) {
    for (std::int64_t head = 0; head < heads; ++head) {
      T* low = x + head * head_dim;
      T* high = low + half;
      for_lanes(half, [&](std::int64_t i, auto... count) {
        const Lanes a = lanes_load(low + i, count...);
        const Lanes b = lanes_load(high + i, count...);
        Lanes c = lanes_load(cos + i, count...);
        Lanes s = lanes_load(sin + i, count...);
        const auto product = [&](Lanes left, Lanes right) {
          const Lanes exact = lanes_mul(left, right);
          return fp32_inside ? exact : lanes_round_to<T>(exact);
        };
        if (!fp32_inside) c = lanes_round_to<T>(c), s = lanes_round_to<T>(s);
        lanes_store(low + i, lanes_sub(product(a, c), product(b, s)), count...);
        lanes_store(high + i, lanes_add(product(b, c), product(a, s)), count...);
      });
    }
  }
}

template <class T>
constexpr HostOps<T> kOps{rms_norm<T>, add_into<T>, silu_mul<T>, gelu<T>, rope<T>};

}  // namespace
}  // namespace facet
