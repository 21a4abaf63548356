// The operations between matrix products, on host memory: one pass each instead of libtorch's three
// to ten. T is float or Bf16 (host_float.h); sums are in fp32. Rounding follows the reference:
// every step that is an operation of its own there is rounded to T here.
// All pointers are dense rows unless a stride is given; strides count elements.
#pragma once

#include <cstdint>

#include "worker/model/host_float.h"

namespace facet {

template <class T>
struct HostOps {
  // out = w * round(x / sqrt(mean(x^2) + eps)); x, out [rows, width]; w [width]
  void (*rms_norm)(const T* x, const T* w, T* out, std::int64_t rows, std::int64_t width,
                   float eps);

  // sum = x + residual, written to residual; [count]
  void (*add_into)(T* residual, const T* x, std::int64_t count);

  // out = silu(gate) * up; gate_up [rows, 2 * width] holds both side by side; out [rows, width]
  void (*silu_mul)(const T* gate_up, T* out, std::int64_t rows, std::int64_t width);

  // x = x * Phi(x), with the error function to 1.5e-7; [count]
  void (*gelu)(T* x, std::int64_t count);

  // Turns `heads` heads of each row in place: x' = x * cos + rotate_half(x) * sin.
  // x [rows, heads, head_dim] with row_stride; cos, sin [rows, head_dim / 2]: both halves turn
  // alike. fp32_inside: one rounding at the end (vision), else after each product and the sum
  // (language).
  void (*rope)(T* x, std::int64_t row_stride, const float* cos, const float* sin, std::int64_t rows,
               std::int64_t heads, std::int64_t head_dim, bool fp32_inside);
};

// The fastest variant that this CPU runs.
template <class T>
const HostOps<T>& host_ops();

}  // namespace facet
