#include "worker/model/qwen2_5_vl/language.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <type_traits>

#include "common/base/check.h"

namespace facet {
namespace {

void widen(const float* from, float* to, std::int64_t count) {
  if (from != to) std::copy_n(from, count, to);
}

void widen(const Bf16* from, float* to, std::int64_t count) {
  std::transform(from, from + count, to, to_float);
}

}  // namespace

// The order of the pieces is that of cpu_memory.cc.
template <class T>
QwenLanguage<T>::QwenLanguage(const QwenConfig& config, const CpuLimits& limits,
                              WeightLoader<T> weights, HostArena& arena, const Scratch& scratch)
    : config_(config.text),
      limits_(limits),
      scratch_(scratch),
      rope_(config.text, limits.context_tokens, arena) {
  load(config, weights);
  const std::int64_t rows = limits.step_tokens;
  hidden_ = arena.take<T>(rows * config_.hidden_size);
  normed_ = arena.take<T>(rows * config_.hidden_size);
  attended_ = arena.take<T>(rows * config_.hidden_size);
  qkv_ = arena.take<T>(rows * config_.qkv_width());
  gate_up_ = arena.take<T>(rows * 2 * config_.intermediate_size);
  inner_ = arena.take<T>(rows * config_.intermediate_size);
  cos_ = arena.take<float>(rows * config_.head_dim() / 2);
  sin_ = arena.take<float>(rows * config_.head_dim() / 2);
  last_ = arena.take<T>(limits.step_chunks * config_.hidden_size);
  logits_ = arena.take<T>(limits.step_chunks * config_.vocab_size);
  logits_fp32_ = arena.take<float>(limits.step_chunks * config_.vocab_size);
  // As many as there can be, so that no step makes them grow.
  rows_.reserve(static_cast<std::size_t>(limits.step_chunks));
  const std::int64_t group = config_.num_heads / config_.num_kv_heads;
  pieces_.reserve(static_cast<std::size_t>(
      config_.num_kv_heads * (limits.step_chunks + rows * group / kAttentionRows + 1)));
}

template <class T>
void QwenLanguage<T>::load(const QwenConfig& config, WeightLoader<T>& weights) {
  const std::string model = "model.language_model.";
  const std::string embed = model + "embed_tokens.weight";
  head_ = weights.linear({config.tie_word_embeddings ? embed : "lm_head.weight"}, {});
  if (!config.tie_word_embeddings) embed_ = weights.values(embed);
  norm_ = weights.values(model + "norm.weight");
  for (std::int64_t i = 0; i < config_.num_layers; ++i) {
    const std::string name = model + "layers." + std::to_string(i) + ".";
    const std::string attn = name + "self_attn.";
    LayerWeights<T> layer;
    layer.norm1 = weights.values(name + "input_layernorm.weight");
    layer.norm2 = weights.values(name + "post_attention_layernorm.weight");
    layer.qkv =
        weights.linear({attn + "q_proj.weight", attn + "k_proj.weight", attn + "v_proj.weight"},
                       {attn + "q_proj.bias", attn + "k_proj.bias", attn + "v_proj.bias"});
    layer.o = weights.linear({attn + "o_proj.weight"}, {});
    layer.gate_up =
        weights.linear({name + "mlp.gate_proj.weight", name + "mlp.up_proj.weight"}, {});
    layer.down = weights.linear({name + "mlp.down_proj.weight"}, {});
    layers_.push_back(layer);
  }
}

template <class T>
void QwenLanguage<T>::embed(std::span<const SequenceChunk> chunks, const T* image_rows) {
  const std::int64_t width = config_.hidden_size;
  FACET_CHECK(static_cast<std::int64_t>(chunks.size()) <= limits_.step_chunks);
  rows_.clear();
  total_ = 0;
  for (const SequenceChunk& chunk : chunks) {
    const auto count = static_cast<std::int64_t>(chunk.token_ids.size());
    FACET_CHECK(count > 0 && chunk.positions.size() == chunk.token_ids.size());
    FACET_CHECK(total_ + count <= limits_.step_tokens);
    T* to = hidden_ + total_ * width;
    for (const std::int32_t id : chunk.token_ids) {
      FACET_CHECK(id >= 0 && id < config_.vocab_size);
      if (embed_ != nullptr)
        std::copy_n(embed_ + id * width, width, to);
      else
        head_.copy_row(id, to);
      to += width;
    }
    for (const ImageRows& image : chunk.image_rows)
      std::copy_n(image_rows + image.pool_row * width, image.count * width,
                  hidden_ + (total_ + image.at) * width);
    const std::int64_t half = config_.head_dim() / 2;
    rope_.fill(chunk.positions, cos_ + total_ * half, sin_ + total_ * half);
    rows_.push_back({&chunk, total_, count, chunk.context_tokens, total_});
    total_ += count;
  }
  cut_into_pieces();
}

template <class T>
void QwenLanguage<T>::cut_into_pieces() {
  const std::int64_t group = config_.num_heads / config_.num_kv_heads;
  pieces_.clear();
  for (std::size_t i = 0; i < rows_.size(); ++i)
    for (std::int64_t head = 0; head < config_.num_kv_heads; ++head)
      for (std::int64_t begin = 0; begin < rows_[i].count * group; begin += kAttentionRows)
        pieces_.push_back(
            {i, head, begin, std::min(begin + kAttentionRows, rows_[i].count * group)});
}

template <class T>
LayerRows<T> QwenLanguage<T>::layer_rows() const {
  LayerRows<T> rows;
  rows.count = total_;
  rows.capacity = limits_.step_tokens;
  rows.hidden = hidden_;
  rows.normed = normed_;
  rows.qkv = qkv_;
  rows.attended = attended_;
  rows.gate_up = gate_up_;
  rows.inner = inner_;
  rows.cos = cos_;
  rows.sin = sin_;
  rows.rope_heads = config_.num_heads + config_.num_kv_heads;
  rows.head_dim = config_.head_dim();
  rows.eps = static_cast<float>(config_.rms_norm_eps);
  rows.scratch = scratch_;
  return rows;
}

// Drops the rows that nothing needs any more once the last layer's keys and values are stored.
template <class T>
void QwenLanguage<T>::keep_last_rows() {
  const std::int64_t width = config_.hidden_size;
  std::erase_if(rows_, [](const Rows& rows) { return rows.chunk->sampler == nullptr; });
  total_ = 0;
  for (Rows& rows : rows_) {
    const std::int64_t dropped = rows.count - 1;
    const T* last = hidden_ + (rows.first + dropped) * width;
    if (rows.first + dropped != total_) std::copy_n(last, width, hidden_ + total_ * width);
    rows = {rows.chunk, rows.first + dropped, 1, rows.context + dropped, total_++};
  }
  cut_into_pieces();
}

template <class T>
void QwenLanguage<T>::run_layer(std::size_t index, KvPool<T>& kv) {
  const auto layer = static_cast<std::int64_t>(index);
  before_attention(layers_[index], layer_rows());
  store_kv(layer, kv);
  if (index + 1 == layers_.size()) keep_last_rows();
  if (total_ == 0) return;
  attend(layer, kv);
  after_attention(layers_[index], layer_rows());
}

template <class T>
void QwenLanguage<T>::store_kv(std::int64_t layer, KvPool<T>& kv) {
  const std::int64_t q_width = config_.num_heads * config_.head_dim();
  const std::int64_t kv_width = config_.num_kv_heads * config_.head_dim();
  for (const Rows& rows : rows_) {
    const T* from = qkv_ + rows.first * config_.qkv_width() + q_width;
    for (std::int64_t i = 0; i < rows.count; ++i, from += config_.qkv_width())
      kv.store(layer, rows.chunk->blocks, rows.context + i, from, from + kv_width);
  }
}

// Causal, straight from the pool: a chunk of one token and a long one alike.
template <class T>
void QwenLanguage<T>::attend(std::int64_t layer, const KvPool<T>& kv) {
  AttentionTask<T> all;
  all.q_stride = config_.qkv_width();
  all.out_stride = config_.hidden_size;
  all.group = config_.num_heads / config_.num_kv_heads;
  all.dim = config_.head_dim();
  all.scale = 1.0F / std::sqrt(static_cast<float>(all.dim));
  all.causal = true;
  const auto body = host_gemm<T>().attend;
  parallel_items(static_cast<std::int64_t>(pieces_.size()), [&](std::int64_t i, int thread) {
    const Piece& piece = pieces_[static_cast<std::size_t>(i)];
    const Rows& rows = rows_[piece.rows];
    AttentionTask<T> task = all;
    const std::int64_t first_value = piece.head * all.group * all.dim;
    task.q = qkv_ + rows.first * config_.qkv_width() + first_value;
    task.out = attended_ + rows.out * config_.hidden_size + first_value;
    task.kv = kv.panels(layer, piece.head, rows.chunk->blocks);
    task.visible = rows.context + 1;
    body(task, piece.begin, piece.end, scratch_.of(thread));
  });
}

// Logits of the rows that are left.
template <class T>
LogitsView QwenLanguage<T>::project_last() {
  const std::int64_t count = total_;
  if (count == 0) return {};
  parallel_rms_norm(hidden_, norm_, last_, count, config_.hidden_size,
                    static_cast<float>(config_.rms_norm_eps));
  T* logits = logits_;
  if constexpr (std::is_same_v<T, float>) logits = logits_fp32_;
  parallel_linear(head_, last_, logits, count, scratch_);
  widen(logits, logits_fp32_, count * config_.vocab_size);
  return {logits_fp32_, static_cast<std::int32_t>(count),
          static_cast<std::int32_t>(config_.vocab_size)};
}

template <class T>
LogitsView QwenLanguage<T>::forward(std::span<const SequenceChunk> chunks, const T* image_rows,
                                    KvPool<T>& kv, const ProgressTick& tick) {
  embed(chunks, image_rows);
  const bool decodes = total_ == static_cast<std::int64_t>(rows_.size());
  const WorkerPhase phase = decodes ? WorkerPhase::kDecode : WorkerPhase::kPrefill;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    run_layer(i, kv);
    tick(phase);
  }
  return project_last();
}

template class QwenLanguage<float>;
template class QwenLanguage<Bf16>;

}  // namespace facet
