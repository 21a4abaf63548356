// The operations between matrix products, on host memory: one pass each instead of libtorch's three
// to ten. T is float or Bf16 (host_float.h); sums are in fp32. Rounding follows the reference:
// every step that is an operation of its own there is rounded to T here.
// All pointers are dense rows unless a stride is given; strides count elements.
#pragma once

#include <cstdint>
#include <span>

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

  // Turns `heads` heads of each row in place: x' = x * cos + rotate_half(x) * sin.
  // x [rows, heads, head_dim] with row_stride; cos, sin [rows, head_dim / 2]: both halves turn
  // alike. fp32_inside: one rounding at the end (vision), else after each product and the sum
  // (language).
  void (*rope)(T* x, std::int64_t row_stride, const float* cos, const float* sin, std::int64_t rows,
               std::int64_t heads, std::int64_t head_dim, bool fp32_inside);
};

// One sequence's KV in a paged pool.
template <class T>
struct PagedSequence {
  const T* keys = nullptr;  // the layer's pool: [blocks, block_tokens, kv_heads, head_dim]
  const T* values = nullptr;
  std::span<const std::int32_t> blocks;
  std::int64_t tokens = 0;  // positions that the query sees
};

struct AttentionShape {
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t block_tokens = 0;
  float scale = 1.0F;
};

template <class T>
struct HostAttention {
  // One query row against a sequence's KV, for the query heads of kv head `kv_head`.
  // q, out [heads, head_dim]; scores: room for (heads / kv_heads) * tokens floats.
  void (*decode)(const T* q, const PagedSequence<T>& sequence, const AttentionShape& shape,
                 std::int64_t kv_head, float* scores, T* out);
};

// The fastest variant that this CPU runs.
template <class T>
const HostOps<T>& host_ops();
template <class T>
const HostAttention<T>& host_attention();

}  // namespace facet
