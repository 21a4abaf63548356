// What a layer does to each row by itself, before and behind attention: alike in the language model
// and the vision tower. Many rows are computed block by block, each thread keeping its block in its
// own cache from the norm to the residual; few rows operation by operation, shared by columns.
#pragma once

#include <cstdint>

#include "worker/model/parallel_ops.h"
#include "worker/model/weights.h"

namespace facet {

template <class T>
struct LayerWeights {
  const T* norm1;
  const T* norm2;
  Linear<T> qkv, o, gate_up, down;
};

// Dense rows of all buffers.
template <class T>
struct LayerRows {
  std::int64_t count = 0;
  std::int64_t capacity = 0;    // rows that the buffers hold
  T* hidden = nullptr;          // [count, width]
  T* normed = nullptr;          // [capacity, width], overwritten
  T* qkv = nullptr;             // [count, qkv.columns]
  const T* attended = nullptr;  // [count, width]
  T* gate_up = nullptr;         // [capacity, 2 * inner width], overwritten
  T* inner = nullptr;           // [capacity, inner width], overwritten
  const float* cos = nullptr;   // [count, head_dim / 2]
  const float* sin = nullptr;
  std::int64_t rope_heads = 0;  // at the beginning of a row of qkv: queries, then keys
  std::int64_t head_dim = 0;
  bool fp32_rope = false;  // see HostOps
  float eps = 0.0F;
  Scratch scratch;
};

// hidden -> qkv, turned by the rotary embedding.
template <class T>
void before_attention(const LayerWeights<T>& weights, const LayerRows<T>& rows);

// hidden += o(attended); hidden += mlp(norm(hidden))
template <class T>
void after_attention(const LayerWeights<T>& weights, const LayerRows<T>& rows);

}  // namespace facet
