// Attention of QwenLanguage: single tokens straight from the paged pool, longer chunks by libtorch.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/scaled_dot_product_attention.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "worker/model/host_ops.h"
#include "worker/model/parallel_ops.h"
#include "worker/model/qwen2_5_vl/language.h"
#include "worker/model/typed.h"

namespace facet {
namespace {

// Queries of one call when a mask is needed: bounds the mask to this times the context.
constexpr std::int64_t kQueryTile = 256;

}  // namespace

template <class T>
void QwenLanguage<T>::attend(std::int64_t layer, const KvPool& kv) {
  if (!decode_rows_.empty()) attend_decode(layer, kv);
  for (const Rows& rows : prefill_rows_) attend_prefill(layer, kv, rows);
}

template <class T>
void QwenLanguage<T>::attend_decode(std::int64_t layer, const KvPool& kv) {
  const AttentionShape shape{config_.num_heads, config_.num_kv_heads, config_.head_dim(),
                             kv.shape().block_tokens,
                             1.0F / std::sqrt(static_cast<float>(config_.head_dim()))};
  const T* keys = data_of<T>(kv.keys(layer));
  const T* values = data_of<T>(kv.values(layer));
  const T* queries = data_of<T>(step_.qkv);
  T* out = data_of<T>(step_.attended);
  const std::int64_t stride = step_.qkv.stride(0);
  const auto count = static_cast<std::int64_t>(decode_rows_.size()) * config_.num_kv_heads;
  parallel_rows(count, 2, [&](std::int64_t begin, std::int64_t end) {
    float* scores = data_of<float>(scores_) + at::get_thread_num() * scores_.size(1);
    for (std::int64_t i = begin; i < end; ++i) {
      const Rows& rows = decode_rows_[static_cast<std::size_t>(i / config_.num_kv_heads)];
      const PagedSequence<T> sequence{keys, values, rows.chunk->blocks,
                                      rows.chunk->context_tokens + 1};
      host_attention<T>().decode(queries + rows.first * stride, sequence, shape,
                                 i % config_.num_kv_heads, scores,
                                 out + rows.first * config_.hidden_size);
    }
  });
}

// Causal attention of a chunk over its context and itself. Batch = KV heads, heads = the query
// heads that share one; the shared KV head is a stride of 0, not a copy.
template <class T>
void QwenLanguage<T>::attend_prefill(std::int64_t layer, const KvPool& kv, const Rows& rows) {
  const std::int64_t dim = config_.head_dim();
  const std::int64_t kv_heads = config_.num_kv_heads;
  const std::int64_t group = config_.num_heads / kv_heads;
  const std::int64_t context = rows.chunk->context_tokens;
  const std::int64_t total = context + rows.count;
  const double scale = 1.0 / std::sqrt(static_cast<double>(dim));
  const at::Tensor qkv = step_.qkv.narrow(0, rows.first, rows.count);
  const at::Tensor q = qkv.narrow(1, 0, config_.num_heads * dim)
                           .view({rows.count, kv_heads, group, dim})
                           .permute({1, 2, 0, 3});
  at::Tensor k = qkv.narrow(1, config_.num_heads * dim, kv_heads * dim);
  at::Tensor v = qkv.narrow(1, (config_.num_heads + kv_heads) * dim, kv_heads * dim);
  if (context > 0) {
    std::vector<std::int64_t> slots(static_cast<std::size_t>(total));
    for (std::int64_t i = 0; i < total; ++i)
      slots[static_cast<std::size_t>(i)] = kv.slot(rows.chunk->blocks, i);
    const at::Tensor index = at::from_blob(slots.data(), {total}, at::kLong);
    k = kv.keys(layer).view({-1, kv_heads * dim}).index_select(0, index);
    v = kv.values(layer).view({-1, kv_heads * dim}).index_select(0, index);
  }
  const auto by_head = [&](const at::Tensor& x) {
    return x.view({total, kv_heads, 1, dim}).permute({1, 2, 0, 3}).expand({-1, group, -1, -1});
  };
  k = by_head(k);
  v = by_head(v);
  const at::Tensor out = step_.attended.narrow(0, rows.first, rows.count)
                             .view({rows.count, kv_heads, group, dim})
                             .permute({1, 2, 0, 3});
  if (context == 0) {
    out.copy_(at::scaled_dot_product_attention(q, k, v, {}, 0.0, true, scale));
    return;
  }
  for (std::int64_t first = 0; first < rows.count; first += kQueryTile) {
    const std::int64_t count = std::min(kQueryTile, rows.count - first);
    const std::int64_t seen = context + first + count;
    const at::Tensor mask = at::ones({count, seen}, at::kBool).tril_(context + first);
    out.narrow(2, first, count)
        .copy_(at::scaled_dot_product_attention(q.narrow(2, first, count), k.narrow(2, 0, seen),
                                                v.narrow(2, 0, seen), mask, 0.0, false, scale));
  }
}

#define FACET_INSTANTIATE(T)                                                 \
  template void QwenLanguage<T>::attend(std::int64_t, const KvPool&);        \
  template void QwenLanguage<T>::attend_decode(std::int64_t, const KvPool&); \
  template void QwenLanguage<T>::attend_prefill(std::int64_t, const KvPool&, const Rows&);
FACET_INSTANTIATE(float)
FACET_INSTANTIATE(Bf16)

}  // namespace facet
