// Chooses the next token of one sequence from its logits.
// Order of operations as in transformers 5.17.0's generate: repetition penalty, (frequency and
// presence penalties, as vLLM), minimum length, then the maximum; or when sampling temperature,
// top-k, top-p, min-p and a draw. All in fp32, as there.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "common/base/result.h"
#include "common/protocol/messages.h"
#include "worker/engine/model_runner.h"

namespace facet {

// Model-wide facts that sampling needs.
struct SamplingDefaults {
  double repetition_penalty = 1.0;
  std::vector<std::int32_t> eos_token_ids;
  std::int32_t vocab_size = 0;
};

// kInvalidArgument: what is out of range, by name.
Status check_sampling(const SamplingParams& params);

class Sampler {
 public:
  // `defaults` outlives the sampler. params.repetition_penalty 0 stands for the default.
  Sampler(const SamplingParams& params, const SamplingDefaults& defaults,
          std::span<const std::int32_t> prompt);

  // A token became part of the answer.
  void observe(std::int32_t token);

  // The token after those observed, a pure function of (params, prompt, observed, logits): the
  // lowest index on ties. `scratch` is working memory. kInternal when a logit is not finite.
  Result<std::int32_t> choose(std::span<const float> logits, std::vector<float>& scratch) const;

  std::uint32_t num_observed() const { return num_observed_; }

  // For a sampler on a device, which computes what choose() does.
  // repetition_penalty as in params() is not the effective one: the checkpoint's may apply.
  const SamplingParams& params() const { return params_; }
  float repetition_penalty() const { return repetition_penalty_; }
  // History so far: distinct tokens of prompt and answer, empty unless the repetition penalty is
  // on; how often each token is in the answer, empty unless one of the other penalties is on.
  std::span<const std::int32_t> seen() const { return seen_; }
  const std::unordered_map<std::int32_t, std::int32_t>& answer_counts() const { return counts_; }
  // -1: none are asked for; otherwise this many of the most likely tokens, and the chosen one's.
  std::int32_t num_logprobs() const {
    return params_.logprobs ? static_cast<std::int32_t>(*params_.logprobs) : -1;
  }

 private:
  void mark_seen(std::int32_t token);
  bool must_not_end() const { return num_observed_ < params_.min_tokens; }
  bool changes_scores() const;
  void apply_penalties(std::span<float> scores) const;
  std::int32_t draw(std::span<float> scores) const;

  SamplingParams params_;
  const SamplingDefaults* defaults_;
  float repetition_penalty_;
  std::uint32_t num_observed_ = 0;
  std::vector<bool> is_seen_;                              // prompt and answer; empty unless needed
  std::vector<std::int32_t> seen_;                         // distinct tokens; empty unless needed
  std::unordered_map<std::int32_t, std::int32_t> counts_;  // answer only; empty unless needed
};

// For runners that bring logits to the host, with max_in_flight() 1: what `chunk` asks for.
ChosenToken choose_on_host(std::span<const float> logits, const SequenceChunk& chunk,
                           std::vector<float>& scratch);

}  // namespace facet
