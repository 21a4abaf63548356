#include "worker/model/layer_rows.h"

#include <omp.h>

#include <algorithm>

#include "worker/model/host_ops.h"

namespace facet {
namespace {

// Rows [first, first + count) of a thread, and its part of the buffers that are overwritten.
struct Block {
  std::int64_t first;
  std::int64_t count;
  std::int64_t place;
  float* scratch;
};

template <class T>
bool by_blocks(const LayerWeights<T>& weights, const LayerRows<T>& rows) {
  return weights.qkv.products == Products::kPanels && shares_rows(rows.count);
}

template <class T, class Body>
void for_blocks(const LayerRows<T>& rows, Body&& body) {
  // The same few rows of a buffer again and again, where there are enough for all threads.
  const bool reuse = rows.capacity >= omp_get_max_threads() * kGemmRowBlock;
  const std::int64_t tiles = (rows.count + kMaxTileRows - 1) / kMaxTileRows;
  parallel_ranges(tiles, 1, [&](std::int64_t begin, std::int64_t end, int thread) {
    const std::int64_t last = std::min(rows.count, end * kMaxTileRows);
    for (std::int64_t first = begin * kMaxTileRows; first < last; first += kGemmRowBlock)
      body(Block{first, std::min(kGemmRowBlock, last - first),
                 reuse ? thread * kGemmRowBlock : first, rows.scratch.of(thread)});
  });
}

}  // namespace

template <class T>
void before_attention(const LayerWeights<T>& weights, const LayerRows<T>& rows) {
  const std::int64_t width = weights.qkv.depth;
  const std::int64_t qkv_width = weights.qkv.columns;
  const std::int64_t half = rows.head_dim / 2;
  if (!by_blocks(weights, rows)) {
    parallel_rms_norm(rows.hidden, weights.norm1, rows.normed, rows.count, width, rows.eps);
    parallel_linear(weights.qkv, rows.normed, rows.qkv, rows.count, rows.scratch);
    parallel_rope(rows.qkv, qkv_width, rows.cos, rows.sin, rows.count, rows.rope_heads,
                  rows.head_dim, rows.fp32_rope);
    return;
  }
  const HostOps<T>& ops = host_ops<T>();
  for_blocks(rows, [&](const Block& block) {
    T* normed = rows.normed + block.place * width;
    T* qkv = rows.qkv + block.first * qkv_width;
    ops.rms_norm(rows.hidden + block.first * width, weights.norm1, normed, block.count, width,
                 rows.eps);
    multiply_rows(weights.qkv, normed, qkv, block.count, block.scratch);
    ops.rope(qkv, qkv_width, rows.cos + block.first * half, rows.sin + block.first * half,
             block.count, rows.rope_heads, rows.head_dim, rows.fp32_rope);
  });
}

template <class T>
void after_attention(const LayerWeights<T>& weights, const LayerRows<T>& rows) {
  const std::int64_t width = weights.down.columns;
  const std::int64_t inner_width = weights.down.depth;
  if (!by_blocks(weights, rows)) {
    parallel_linear(weights.o, rows.attended, rows.normed, rows.count, rows.scratch);
    parallel_add_into(rows.hidden, rows.normed, rows.count * width);
    parallel_rms_norm(rows.hidden, weights.norm2, rows.normed, rows.count, width, rows.eps);
    parallel_linear(weights.gate_up, rows.normed, rows.gate_up, rows.count, rows.scratch);
    parallel_silu_mul(rows.gate_up, rows.inner, rows.count, inner_width);
    parallel_linear(weights.down, rows.inner, rows.normed, rows.count, rows.scratch);
    parallel_add_into(rows.hidden, rows.normed, rows.count * width);
    return;
  }
  const HostOps<T>& ops = host_ops<T>();
  for_blocks(rows, [&](const Block& block) {
    T* hidden = rows.hidden + block.first * width;
    T* normed = rows.normed + block.place * width;
    T* gate_up = rows.gate_up + block.place * 2 * inner_width;
    T* inner = rows.inner + block.place * inner_width;
    multiply_rows(weights.o, rows.attended + block.first * weights.o.depth, normed, block.count,
                  block.scratch);
    ops.add_into(hidden, normed, block.count * width);
    ops.rms_norm(hidden, weights.norm2, normed, block.count, width, rows.eps);
    multiply_rows(weights.gate_up, normed, gate_up, block.count, block.scratch);
    ops.silu_mul(gate_up, inner, block.count, inner_width);
    multiply_rows(weights.down, inner, normed, block.count, block.scratch);
    ops.add_into(hidden, normed, block.count * width);
  });
}

template void before_attention<float>(const LayerWeights<float>&, const LayerRows<float>&);
template void before_attention<Bf16>(const LayerWeights<Bf16>&, const LayerRows<Bf16>&);
template void after_attention<float>(const LayerWeights<float>&, const LayerRows<float>&);
template void after_attention<Bf16>(const LayerWeights<Bf16>&, const LayerRows<Bf16>&);

}  // namespace facet
