// The language model of Qwen2.5-VL on a GPU: chunks of many sequences in one pass.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "kernels/attention/paged_decode_attention.h"
#include "worker/engine/model_runner.h"
#include "worker/model/cuda/cutter.h"
#include "worker/model/cuda/pinned.h"
#include "worker/model/cuda/step_block.h"
#include "worker/model/qwen2_5_vl/cuda_parts.h"
#include "worker/model/qwen2_5_vl/cuda_sizes.h"

namespace facet {

struct LanguageActivations {
  LanguageActivations(Cutter& cutter, const QwenTextConfig& text, const CudaQwenSizes& sizes);
  void *hidden, *normed, *projected, *qkv, *attended, *gate_up, *inner, *last_hidden, *last_normed;
};

// Inputs of a step, and what attention keeps.
struct LanguageInputs {
  LanguageInputs(Cutter& cutter, const QwenTextConfig& text, const CudaQwenSizes& sizes);
  std::byte* block;
  std::int32_t* table;  // [chunks, lane_blocks]
  float* frequencies;   // [head_dim / 2]
  std::int32_t* best;   // [chunks]
  void* attention_workspace;
  static std::int64_t block_bytes(const CudaQwenSizes& sizes);
  static std::size_t workspace_bytes(const QwenTextConfig& text, const CudaQwenSizes& sizes);
};

class CudaLanguage {
 public:
  // Regions of the arena; image_rows: the encoder's output pool.
  struct Regions {
    void *inputs, *logits, *kv, *gathered;
    const void* image_rows;
  };

  // `weights` and what `parts` and `regions` point to outlive this.
  CudaLanguage(const QwenConfig& config, const CudaQwenSizes& sizes, const CudaQwenWeights& weights,
               const CudaParts& parts, const Regions& regions);

  // What the chunks that have a sampler get to choose from, in their order; valid until the next
  // call.
  struct Scores {
    std::span<const std::int32_t> best;          // greedy token of each; -1: a logit was NaN
    std::vector<std::span<const float>> logits;  // of those that want them, else empty
  };
  // Computes the chunks and waits. Logits, as the model's dtype rounds them, come to the host only
  // for the chunks that wants_logits() tells.
  Scores forward(std::span<const SequenceChunk> chunks,
                 const std::function<bool(const SequenceChunk&)>& wants_logits,
                 const ProgressTick& tick);

 private:
  struct Order;
  struct Group;  // chunks that run through one call of attention
  struct Step;

  Step pack(std::span<const SequenceChunk> chunks);
  void pack_rows(const Order& order, Step& step, StepBlock& block) const;
  void pack_groups(const Order& order, Step& step, StepBlock& block) const;
  void send_tables(const Order& order);
  void run_layer(const Step& step, std::size_t layer) const;
  void rope(const Step& step, std::int64_t layer) const;
  void attend(const Step& step, std::int64_t layer) const;
  void attend_group(const Group& group, std::int64_t layer) const;
  kernels::RmsNormShape norm_shape(std::int64_t rows) const;
  Scores read_scores(const std::vector<bool>& wanted);
  std::span<const float> host_logits(std::size_t row);
  void embed(const Step& step) const;
  void project(const Step& step) const;
  void* kv_pool(std::int64_t layer, bool values) const;

  QwenTextConfig config_;
  CudaQwenSizes sizes_;
  const CudaQwenWeights& weights_;
  CudaParts parts_;
  Regions regions_;
  LanguageActivations buffers_;
  LanguageInputs inputs_;
  kernels::PagedDecodeShape decode_;
  PinnedBuffer host_block_, host_table_, host_logits_, host_best_;
  std::vector<float> widened_;  // rows of bf16 logits that the host asked for
};

kernels::PagedDecodeShape decode_shape(const QwenTextConfig& text, const CudaQwenSizes& sizes);

}  // namespace facet
