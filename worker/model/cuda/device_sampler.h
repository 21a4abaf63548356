// Tokens are chosen on the device: what each lane's request asks for lies there, beside the token
// chosen for it last, so that the next step can begin before the host knows it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/sampling/sampler.h"
#include "worker/engine/model_runner.h"
#include "worker/model/cuda/cutter.h"
#include "worker/model/cuda/pinned.h"

namespace facet {

struct DeviceSamplerSizes {
  kernels::DType logits = kernels::DType::kBf16;
  std::int32_t lanes = 0;
  std::int32_t vocab = 0;    // at most kernels::kMaxSampledVocab
  std::int64_t context = 0;  // tokens of one sequence
};

struct SamplerRegions {
  SamplerRegions(Cutter& cutter, const DeviceSamplerSizes& sizes);
  kernels::SamplingLane* lanes;
  kernels::TokenState* states;  // [lanes, vocab]
  std::int32_t* history;        // [2 context], tokens of lanes that begin
  std::int32_t* chosen;         // [lanes]
  kernels::SampledToken* out;   // [lanes]
  std::int32_t* top_ids;        // [lanes, kMaxTopLogprobs]
  float* top_logprobs;
};

class DeviceSampler {
 public:
  static constexpr int kSlots = 2;  // steps whose host memory is in use at once

  // `ends`: at most kernels::kMaxEosTokens. `region` holds cut_bytes<SamplerRegions>(sizes).
  DeviceSampler(const DeviceSamplerSizes& sizes, std::span<const std::int32_t> ends, void* region,
                cudaStream_t stream);

  // Before the step: lanes whose first token it chooses learn what their requests ask for and what
  // they have seen. The slot's step before was collected.
  void begin_lanes(std::span<const SequenceChunk> chunks, int slot);

  // Chooses for `rows` rows of logits, at most as many as lanes; row_lane [rows] on the device, -1:
  // for none. Capturable.
  void sample(const void* logits, const std::int32_t* row_lane, std::int32_t rows,
              const kernels::Launch& launch) const;

  // Copies the results of so many rows to the slot's host memory.
  void fetch(std::int32_t rows, bool with_top, int slot) const;

  // Once the copy is there. `num_logprobs` as of Sampler::num_logprobs().
  ChosenToken result(int slot, std::int32_t row, std::int32_t num_logprobs) const;

  // [lanes] on the device: the token chosen last for each.
  const std::int32_t* chosen() const { return device_.chosen; }

 private:
  struct Slot {
    explicit Slot(const DeviceSamplerSizes& sizes);
    PinnedBuffer lanes, history, out, top_ids, top_logprobs;
    std::int64_t used_history = 0;
  };
  void begin_lane(const SequenceChunk& chunk, Slot& slot);
  void send_history(const SequenceChunk& chunk, Slot& slot);

  DeviceSamplerSizes sizes_;
  SamplerRegions device_;
  cudaStream_t stream_;
  kernels::SamplerShape shape_;
  Slot slots_[kSlots];
  std::vector<bool> is_fresh_;               // lanes of which the device knows nothing yet
  std::vector<std::uint32_t> num_observed_;  // as the device counts
};

}  // namespace facet
