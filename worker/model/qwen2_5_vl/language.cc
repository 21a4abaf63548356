#include "worker/model/qwen2_5_vl/language.h"

#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "common/base/check.h"
#include "worker/model/parallel_ops.h"
#include "worker/model/typed.h"

namespace facet {
namespace {

template <class T>
at::Tensor reserve(std::int64_t rows, std::int64_t width) {
  return at::zeros({rows, width}, kTorchType<T>);
}

}  // namespace

template <class T>
QwenLanguage<T>::QwenLanguage(const QwenConfig& config, const LanguageLimits& limits,
                              const WeightLoader& weights)
    : config_(config.text), limits_(limits), rope_(config.text) {
  const std::string model = "model.language_model.";
  embed_w_ = weights.get(model + "embed_tokens.weight");
  norm_w_ = weights.get(model + "norm.weight");
  head_w_ = config.tie_word_embeddings ? embed_w_ : weights.get("lm_head.weight");
  for (std::int64_t i = 0; i < config_.num_layers; ++i) {
    const std::string name = model + "layers." + std::to_string(i) + ".";
    const std::string attn = name + "self_attn.";
    Layer layer;
    layer.norm1 = weights.get(name + "input_layernorm.weight");
    layer.norm2 = weights.get(name + "post_attention_layernorm.weight");
    layer.qkv_w = weights.stack_rows(
        {attn + "q_proj.weight", attn + "k_proj.weight", attn + "v_proj.weight"});
    layer.qkv_b =
        weights.stack_rows({attn + "q_proj.bias", attn + "k_proj.bias", attn + "v_proj.bias"});
    layer.o_w = weights.get(attn + "o_proj.weight");
    layer.gate_up_w =
        weights.stack_rows({name + "mlp.gate_proj.weight", name + "mlp.up_proj.weight"});
    layer.down_w = weights.get(name + "mlp.down_proj.weight");
    layers_.push_back(std::move(layer));
  }
  const std::int64_t rows = limits.step_tokens;
  const std::int64_t qkv_width =
      (config_.num_heads + 2 * config_.num_kv_heads) * config_.head_dim();
  reserved_.hidden = reserve<T>(rows, config_.hidden_size);
  reserved_.normed = reserve<T>(rows, config_.hidden_size);
  reserved_.qkv = reserve<T>(rows, qkv_width);
  reserved_.attended = reserve<T>(rows, config_.hidden_size);
  reserved_.gate_up = reserve<T>(rows, 2 * config_.intermediate_size);
  reserved_.inner = reserve<T>(rows, config_.intermediate_size);
  reserved_.rotary = {reserve<float>(rows, config_.head_dim() / 2),
                      reserve<float>(rows, config_.head_dim() / 2)};
  logits_ = reserve<T>(limits.step_chunks, config_.vocab_size);
  if (kTorchType<T> != at::kFloat)
    logits_fp32_ = reserve<float>(limits.step_chunks, config_.vocab_size);
  scores_ = reserve<float>(limits.threads,
                           config_.num_heads / config_.num_kv_heads * limits.context_tokens);
}

template <class T>
void QwenLanguage<T>::embed(std::span<const SequenceChunk> chunks, const at::Tensor& image_rows) {
  const std::int64_t width = config_.hidden_size;
  const T* table = data_of<T>(embed_w_);
  const T* images = data_of<T>(image_rows);
  const auto row_bytes = static_cast<std::size_t>(width) * sizeof(T);
  rows_.clear();
  decode_rows_.clear();
  prefill_rows_.clear();
  std::int64_t total = 0;
  for (const SequenceChunk& chunk : chunks) {
    const auto count = static_cast<std::int64_t>(chunk.token_ids.size());
    FACET_CHECK(count > 0 && chunk.positions.size() == chunk.token_ids.size());
    FACET_CHECK(total + count <= limits_.step_tokens);
    T* to = data_of<T>(reserved_.hidden) + total * width;
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int32_t id = chunk.token_ids[static_cast<std::size_t>(i)];
      FACET_CHECK(id >= 0 && id < config_.vocab_size);
      std::memcpy(to + i * width, table + id * width, row_bytes);
    }
    for (const ImageRows& image : chunk.image_rows)
      std::memcpy(to + image.at * width, images + image.pool_row * width,
                  row_bytes * static_cast<std::size_t>(image.count));
    rope_.fill(chunk.positions, total, reserved_.rotary);
    rows_.push_back({&chunk, total, count});
    (count == 1 ? decode_rows_ : prefill_rows_).push_back(rows_.back());
    total += count;
  }
  const auto take = [&](const at::Tensor& tensor) { return tensor.narrow(0, 0, total); };
  step_ = {take(reserved_.hidden),
           take(reserved_.normed),
           take(reserved_.qkv),
           take(reserved_.attended),
           take(reserved_.gate_up),
           take(reserved_.inner),
           {take(reserved_.rotary.cos), take(reserved_.rotary.sin)}};
}

template <class T>
void QwenLanguage<T>::run_layer(const Layer& weights, std::int64_t layer, KvPool& kv) {
  const auto eps = static_cast<float>(config_.rms_norm_eps);
  parallel_rms_norm<T>(step_.hidden, weights.norm1, step_.normed, eps);
  linear_into(step_.qkv, step_.normed, weights.qkv_w, weights.qkv_b);
  parallel_rope<T>(step_.qkv, config_.num_heads + config_.num_kv_heads, config_.head_dim(),
                   step_.rotary, false);
  store_kv(layer, kv);
  attend(layer, kv);
  linear_into(step_.normed, step_.attended, weights.o_w, {});
  parallel_add_into<T>(step_.hidden, step_.normed);
  parallel_rms_norm<T>(step_.hidden, weights.norm2, step_.normed, eps);
  linear_into(step_.gate_up, step_.normed, weights.gate_up_w, {});
  parallel_silu_mul<T>(step_.gate_up, step_.inner);
  linear_into(step_.normed, step_.inner, weights.down_w, {});
  parallel_add_into<T>(step_.hidden, step_.normed);
}

template <class T>
void QwenLanguage<T>::store_kv(std::int64_t layer, KvPool& kv) {
  const std::int64_t q_width = config_.num_heads * config_.head_dim();
  const std::int64_t kv_width = config_.num_kv_heads * config_.head_dim();
  const std::int64_t stride = step_.qkv.stride(0);
  const auto bytes = static_cast<std::size_t>(kv_width) * sizeof(T);
  T* keys = data_of<T>(kv.keys(layer));
  T* values = data_of<T>(kv.values(layer));
  for (const Rows& rows : rows_) {
    const T* from = data_of<T>(step_.qkv) + rows.first * stride + q_width;
    for (std::int64_t i = 0; i < rows.count; ++i, from += stride) {
      const std::int64_t slot = kv.slot(rows.chunk->blocks, rows.chunk->context_tokens + i);
      std::memcpy(keys + slot * kv_width, from, bytes);
      std::memcpy(values + slot * kv_width, from + kv_width, bytes);
    }
  }
}

// Logits of the last token of each chunk whose next token is to be chosen.
template <class T>
LogitsView QwenLanguage<T>::project_last(std::span<const SequenceChunk> chunks) {
  std::vector<std::int64_t> last;
  for (const Rows& rows : rows_)
    if (rows.chunk->sampler != nullptr) last.push_back(rows.first + rows.count - 1);
  const auto count = static_cast<std::int64_t>(last.size());
  FACET_CHECK(chunks.size() >= last.size() && count <= limits_.step_chunks);
  if (count == 0) return {};
  const at::Tensor index = at::from_blob(last.data(), {count}, at::kLong);
  const at::Tensor hidden = at::index_select(step_.hidden, 0, index);
  at::Tensor normed = at::empty_like(hidden);
  parallel_rms_norm<T>(hidden, norm_w_, normed, static_cast<float>(config_.rms_norm_eps));
  at::Tensor logits = logits_.narrow(0, 0, count);
  linear_into(logits, normed, head_w_, {});
  const at::Tensor& wide = logits_fp32_.defined() ? logits_fp32_ : logits_;
  if (logits_fp32_.defined()) logits_fp32_.narrow(0, 0, count).copy_(logits);
  return {wide.const_data_ptr<float>(), static_cast<std::int32_t>(count),
          static_cast<std::int32_t>(config_.vocab_size)};
}

template <class T>
LogitsView QwenLanguage<T>::forward(std::span<const SequenceChunk> chunks,
                                    const at::Tensor& image_rows, KvPool& kv,
                                    const ProgressTick& tick) {
  embed(chunks, image_rows);
  const WorkerPhase phase = prefill_rows_.empty() ? WorkerPhase::kDecode : WorkerPhase::kPrefill;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    run_layer(layers_[i], static_cast<std::int64_t>(i), kv);
    tick(phase);
  }
  return project_last(chunks);
}

template class QwenLanguage<float>;
template class QwenLanguage<Bf16>;

}  // namespace facet
