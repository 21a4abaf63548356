// The language model of Qwen2.5-VL over a paged KV pool: chunks of many sequences in one pass.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "worker/checkpoint/qwen_config.h"
#include "worker/engine/model_runner.h"
#include "worker/model/kv_pool.h"
#include "worker/model/rotary.h"
#include "worker/model/weights.h"

namespace facet {

struct LanguageLimits {
  std::int64_t step_tokens = 0;
  std::int64_t step_chunks = 0;
  std::int64_t context_tokens = 0;  // of one sequence
  std::int64_t threads = 1;
};

// Rows in the order of the chunks with a sampler. Values are fp32, rounded to the dtype the model
// computes in. Valid until the next forward().
struct LogitsView {
  const float* data = nullptr;
  std::int32_t rows = 0;
  std::int32_t width = 0;

  std::span<const float> row(std::int32_t index) const {
    return {data + static_cast<std::size_t>(index) * static_cast<std::size_t>(width),
            static_cast<std::size_t>(width)};
  }
};

template <class T>
class QwenLanguage {
 public:
  QwenLanguage(const QwenConfig& config, const LanguageLimits& limits, const WeightLoader& weights);

  // `image_rows` [pool rows, hidden]: what the chunks' ImageRows point into.
  // The view is of the model's own buffer.
  LogitsView forward(std::span<const SequenceChunk> chunks, const at::Tensor& image_rows,
                     KvPool& kv, const ProgressTick& tick);

 private:
  struct Layer {
    at::Tensor norm1, norm2, qkv_w, qkv_b, o_w, gate_up_w, down_w;
  };
  // Where a chunk's rows lie in the step's batch.
  struct Rows {
    const SequenceChunk* chunk;
    std::int64_t first;
    std::int64_t count;
  };

  void embed(std::span<const SequenceChunk> chunks, const at::Tensor& image_rows);
  void store_kv(std::int64_t layer, KvPool& kv);
  void attend(std::int64_t layer, const KvPool& kv);
  void attend_decode(std::int64_t layer, const KvPool& kv);
  void attend_prefill(std::int64_t layer, const KvPool& kv, const Rows& rows);
  void run_layer(const Layer& weights, std::int64_t layer, KvPool& kv);
  LogitsView project_last(std::span<const SequenceChunk> chunks);

  QwenTextConfig config_;
  LanguageLimits limits_;
  MRope rope_;
  at::Tensor embed_w_, norm_w_, head_w_;
  std::vector<Layer> layers_;
  // Activations of the largest step, reserved once; narrowed to the step's rows while it runs.
  struct Buffers {
    at::Tensor hidden, normed, qkv, attended, gate_up, inner;
    RotaryTable rotary;
  };
  Buffers reserved_, step_;
  at::Tensor logits_, logits_fp32_;
  at::Tensor scores_;  // [threads, heads of a group * context_tokens]
  std::vector<Rows> rows_, decode_rows_, prefill_rows_;
};

}  // namespace facet
