// The language model of Qwen2.5-VL over a paged KV pool: chunks of many sequences in one pass.
// A token's values depend on its own sequence alone, bit for bit, however the sequence is cut into
// chunks and whatever else the step computes (Products::kPanels).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "worker/checkpoint/qwen_config.h"
#include "worker/engine/model_runner.h"
#include "worker/engine/qwen2_5_vl/cpu_memory.h"
#include "worker/model/kv_pool.h"
#include "worker/model/layer_rows.h"
#include "worker/model/parallel_ops.h"
#include "worker/model/rotary.h"
#include "worker/model/weights.h"

namespace facet {

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
  // Takes its weights and buffers from the loader's arena.
  QwenLanguage(const QwenConfig& config, const CpuLimits& limits, WeightLoader<T> weights,
               HostArena& arena, const Scratch& scratch);

  // `image_rows` [pool rows, hidden]: what the chunks' ImageRows point into.
  LogitsView forward(std::span<const SequenceChunk> chunks, const T* image_rows, KvPool<T>& kv,
                     const ProgressTick& tick);

 private:
  // Where a chunk's rows lie in the step's batch. In the last layer, behind its keys and values,
  // only the last token of a chunk that chooses the next one is computed: one row of it is left.
  struct Rows {
    const SequenceChunk* chunk;
    std::int64_t first;
    std::int64_t count;
    std::int64_t context;  // tokens of the sequence before these
    std::int64_t out;      // first row of what attention gives
  };
  // Query rows [begin, end) of one KV head of a chunk, see AttentionTask.
  struct Piece {
    std::size_t rows;  // index into rows_
    std::int64_t head;
    std::int64_t begin;
    std::int64_t end;
  };

  void load(const QwenConfig& config, WeightLoader<T>& weights);
  void embed(std::span<const SequenceChunk> chunks, const T* image_rows);
  void cut_into_pieces();
  LayerRows<T> layer_rows() const;
  void keep_last_rows();
  void run_layer(std::size_t index, KvPool<T>& kv);
  void store_kv(std::int64_t layer, KvPool<T>& kv);
  void attend(std::int64_t layer, const KvPool<T>& kv);
  LogitsView project_last();

  QwenTextConfig config_;
  CpuLimits limits_;
  Scratch scratch_;
  MRope rope_;
  Linear<T> head_;
  const T* embed_ = nullptr;  // [vocab, hidden]; null where the head is the embedding, too
  const T* norm_ = nullptr;
  std::vector<LayerWeights<T>> layers_;
  // Activations of the largest step; rows are the step's tokens.
  T* hidden_;
  T* normed_;
  T* attended_;
  T* qkv_;
  T* gate_up_;
  T* inner_;
  float* cos_;
  float* sin_;
  T* last_;    // [step_chunks, hidden]
  T* logits_;  // [step_chunks, vocab]
  float* logits_fp32_;
  std::int64_t total_ = 0;  // rows that are computed
  std::vector<Rows> rows_;
  std::vector<Piece> pieces_;
};

}  // namespace facet
