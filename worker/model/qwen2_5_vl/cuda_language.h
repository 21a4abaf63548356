// The language model of Qwen2.5-VL on a GPU: chunks of many sequences in one pass.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "kernels/attention/paged_decode_attention.h"
#include "kernels/linear/gemv.h"
#include "worker/engine/model_runner.h"
#include "worker/model/cuda/cuda_graph.h"
#include "worker/model/cuda/cutter.h"
#include "worker/model/cuda/device_sampler.h"
#include "worker/model/cuda/pinned.h"
#include "worker/model/cuda/step_block.h"
#include "worker/model/qwen2_5_vl/cuda_parts.h"
#include "worker/model/qwen2_5_vl/cuda_sizes.h"

namespace facet {

struct LanguageActivations {
  LanguageActivations(Cutter& cutter, const QwenTextConfig& text, const CudaQwenSizes& sizes);
  void *hidden, *normed, *projected, *qkv, *attended, *gate_up, *inner;
  void *last_hidden, *last_attended;  // [lanes]: of rows that choose a token
};

// Inputs of a step, and what attention keeps.
struct LanguageInputs {
  LanguageInputs(Cutter& cutter, const QwenTextConfig& text, const CudaQwenSizes& sizes);
  std::byte* block;
  std::int32_t* table;  // [chunks, lane_blocks]
  float* frequencies;   // [head_dim / 2]
  void* attention_workspace;
  static std::int64_t block_bytes(const CudaQwenSizes& sizes);
  static std::size_t workspace_bytes(const QwenTextConfig& text, const CudaQwenSizes& sizes);
};

class CudaLanguage {
 public:
  static constexpr int kSlots = DeviceSampler::kSlots;

  // Regions of the arena; image_rows: the encoder's output pool.
  struct Regions {
    void *inputs, *logits, *kv, *gathered;
    const void* image_rows;
  };

  // `weights`, `sampler` and what `parts` and `regions` point to outlive this.
  CudaLanguage(const QwenConfig& config, const CudaQwenSizes& sizes, const CudaQwenWeights& weights,
               const CudaParts& parts, const Regions& regions, const DeviceSampler& sampler);
  ~CudaLanguage();

  // Before the first step: touch the kernels of steps of many sizes, and capture steps of single
  // tokens as graphs. Afterwards nothing is loaded or allocated any more. The KV pool's first
  // blocks are scribbled over.
  void touch_prefill(const ProgressTick& tick);
  void capture_graphs(const ProgressTick& tick);

  // A step in two parts, put on the stream in this order. Host memory is a slot's, free again when
  // the stream has passed prepare().
  void prepare(std::span<const SequenceChunk> chunks, int slot);  // inputs to the device
  void run(const ProgressTick& tick);                             // computes, samples

  // Of the step prepared last: results that the sampler has, and which of them belongs to each of
  // the chunks that have a sampler, in their order.
  std::int32_t num_results() const;
  std::span<const std::int32_t> result_rows() const { return result_rows_; }
  // [num_results, vocab] on the device, in the model's dtype.
  const void* logits() const { return regions_.logits; }

 private:
  struct Order;
  struct Group;  // chunks that run through one call of attention
  struct Step;

  Step pack(std::span<const SequenceChunk> chunks, std::int32_t padded_lanes, int slot);
  void pack_rows(const Order& order, Step& step, StepBlock& block) const;
  void pack_groups(const Order& order, Step& step, StepBlock& block) const;
  void pack_chosen(std::span<const SequenceChunk> chunks, const Order& order, Step& step,
                   StepBlock& block);
  void send_tables(const Order& order, int slot);
  // Lanes of the graph that takes these chunks; 0: they run kernel by kernel.
  std::int32_t graph_lanes(std::span<const SequenceChunk> chunks) const;
  void capture(std::int32_t lanes);
  void touch_step(std::int64_t tokens, std::int64_t context);
  void compute(const Step& step, const ProgressTick& tick) const;
  void run_layer(const Step& step, std::size_t layer) const;
  // cuda_few_lanes.cc
  bool has_few_lanes(const Step& step) const;
  void compute_few_lanes(const Step& step) const;
  void multiply(const kernels::GemvShape& shape, const void* x, const DeviceMatrix* norm,
                const DeviceMatrix& weight, const DeviceMatrix* bias, void* out) const;
  void run_mlp(const CudaLanguageLayer& weights, const void* attended, void* hidden,
               std::int64_t rows, const DeviceMatrix& next_norm) const;
  void choose(const Step& step) const;
  void rope(const Step& step, std::int64_t layer) const;
  void attend(const Step& step, std::int64_t layer) const;
  void attend_group(const Group& group, std::int64_t layer) const;
  kernels::RmsNormShape norm_shape(std::int64_t rows) const;
  void gather(const void* from, const Step& step, void* to, std::int64_t width) const;
  void embed(const Step& step) const;
  void* kv_pool(std::int64_t layer, bool values) const;

  QwenTextConfig config_;
  CudaQwenSizes sizes_;
  const CudaQwenWeights& weights_;
  CudaParts parts_;
  Regions regions_;
  const DeviceSampler& sampler_;
  LanguageActivations buffers_;
  LanguageInputs inputs_;
  kernels::PagedDecodeShape decode_;
  PinnedBuffer host_block_[kSlots], host_table_[kSlots];
  std::map<std::int32_t, CudaGraph> graphs_;  // lanes -> a step of so many single tokens
  std::unique_ptr<Step> step_;                // prepared last
  std::vector<std::int32_t> result_rows_;
};

kernels::PagedDecodeShape decode_shape(const QwenTextConfig& text, const CudaQwenSizes& sizes);

}  // namespace facet
