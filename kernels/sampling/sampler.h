// Chooses the next token of every row from its logits, on the device: the order of operations, the
// draw and the ties of worker/engine/sampler.h. A row's token is a function of its logits and its
// lane alone: no sum runs over rows, and probability masses are added as 64-bit integers, so no
// order of threads shows. A mass is fp32's exp(score - best) in units of 2^-44, and 0 for scores
// more than 30 below the best: a draw differs from the CPU's where the random number falls within
// about 1e-6 of a boundary between tokens. Where the best score is infinite, its lowest index.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/base/launch.h"

namespace facet::kernels {

inline constexpr int kMaxTopLogprobs = 20;
inline constexpr int kMaxEosTokens = 8;
inline constexpr std::int32_t kMaxSampledVocab = 1 << 18;  // so many masses fit 64 bits

// One lane's sampling, in device memory; written by the host when a sequence takes the lane.
// 64-bit members first: the same layout for host and device.
struct SamplingLane {
  double top_p = 1.0;
  double min_p = 0.0;
  double presence_penalty = 0.0;
  double frequency_penalty = 0.0;
  std::uint64_t seed = 0;
  float temperature = 0.0F;         // 0: the maximum
  float repetition_penalty = 1.0F;  // 1: none
  std::uint32_t top_k = 0;          // 0: off
  std::uint32_t min_tokens = 0;
  std::uint32_t num_observed = 0;  // tokens of the answer so far; advanced by the sampler
  std::int32_t num_logprobs = -1;  // -1: none; 0 .. kMaxTopLogprobs: of the chosen, and of so many
};

// What the lane has seen of each token of the vocabulary: kInPrompt, and how often it was answered
// (at most kAnsweredMask is counted).
using TokenState = std::uint16_t;
inline constexpr TokenState kInPrompt = 0x8000;
inline constexpr TokenState kAnsweredMask = 0x7fff;

enum class SampleStatus : std::int32_t {
  kUnused = 0,  // row without a lane
  kOk = 1,
  kNotFinite = 2,  // a logit was infinite or not a number: token is -1, the lane stays as it was
};

struct SampledToken {
  std::int32_t token = -1;
  SampleStatus status = SampleStatus::kUnused;
  // Where the lane asks for it: of the model's own distribution, before penalties and temperature.
  float logprob = 0.0F;
  std::int32_t num_top = 0;  // entries of top_ids and top_logprobs, the most likely first
};

struct SamplerShape {
  std::int32_t rows = 0;
  std::int32_t vocab = 0;
  std::int64_t logits_stride = 0;  // elements
  DType logits_dtype = DType::kBf16;
  std::int32_t num_eos = 0;
  std::int32_t eos[kMaxEosTokens] = {};  // banned before min_tokens
};

// All in device memory. A lane stands in one row at most.
struct SamplerArgs {
  const void* logits = nullptr;            // [rows, vocab]
  const std::int32_t* row_lane = nullptr;  // [rows]; -1: unused; null: row r is lane r
  SamplingLane* lanes = nullptr;           // read, and advanced
  TokenState* states = nullptr;            // [lanes, vocab]; null: no lane has penalties
  SampledToken* out = nullptr;             // [rows]
  std::int32_t* top_ids = nullptr;         // [rows, kMaxTopLogprobs]; null: num_top is 0
  float* top_logprobs = nullptr;           // the same; both or none
  std::int32_t* last_tokens = nullptr;     // [lanes] or null: the chosen one, for embed_tokens
};

// One block a row: one pass over the logits (and states, of lanes with penalties) for the maximum,
// two more for a plain draw, four for each of top-k and top-p (two more where top-p ends among
// equals), two and one a token for log probabilities; those after the first read the L2 cache.
// Bound by what one SM reads from it.
cudaError_t sample_tokens(const SamplerShape& shape, const SamplerArgs& args, const Launch& launch);

// Zeroes a lane's states and marks its prompt, then counts what was answered on an earlier attempt.
// token_ids in device memory, prompt first; ids outside of
// the vocabulary are passed over.
cudaError_t reset_token_state(TokenState* state, std::int32_t vocab, const std::int32_t* token_ids,
                              std::int32_t num_prompt, std::int32_t num_answered,
                              const Launch& launch);

}  // namespace facet::kernels
