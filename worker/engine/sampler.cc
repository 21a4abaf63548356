#include "worker/engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <ranges>
#include <string>

#include "common/base/check.h"
#include "common/protocol/limits.h"
#include "worker/engine/philox.h"

namespace facet {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

Status check_range(const char* name, double value, double low, double high) {
  if (value >= low && value <= high) return {};
  return Error(Code::kInvalidArgument, std::string(name) + " " + std::to_string(value) +
                                           " is not between " + std::to_string(low) + " and " +
                                           std::to_string(high));
}

void keep_top_k(std::span<float> scores, std::size_t k) {
  if (k == 0 || k >= scores.size()) return;
  std::vector<float> sorted(scores.begin(), scores.end());
  const auto kth = sorted.begin() + static_cast<std::ptrdiff_t>(k - 1);
  std::nth_element(sorted.begin(), kth, sorted.end(), std::greater<>());
  for (float& score : scores)
    if (score < *kth) score = kMinusInfinity;  // ties with the k-th stay
}

// Scores this far below the best add less than fp32's rounding to a sum over any vocabulary.
constexpr float kNegligible = 30.0F;

// Drops the tail whose probabilities sum to at most 1 - top_p.
void keep_top_p(std::span<float> scores, double top_p) {
  if (top_p >= 1.0) return;
  const float best = *std::max_element(scores.begin(), scores.end());
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < scores.size(); ++i)
    if (scores[i] >= best - kNegligible)
      order.push_back(i);
    else
      scores[i] = kMinusInfinity;
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return scores[a] < scores[b]; });
  double sum = 0.0;
  for (const std::size_t i : order) sum += std::exp(scores[i] - best);
  double below = 0.0;
  for (std::size_t at = 0; at + 1 < order.size(); ++at) {  // the best one always stays
    below += std::exp(scores[order[at]] - best) / sum;
    if (below > 1.0 - top_p) break;
    scores[order[at]] = kMinusInfinity;
  }
}

void keep_min_p(std::span<float> scores, double min_p) {
  if (min_p <= 0.0) return;
  const float best = *std::max_element(scores.begin(), scores.end());
  for (float& score : scores)
    if (score < best && std::exp(score - best) < min_p) score = kMinusInfinity;
}

}  // namespace

Status check_sampling(const SamplingParams& params) {
  FACET_TRY_STATUS(check_range("temperature", params.temperature, 0.0, kMaxTemperature));
  FACET_TRY_STATUS(check_range("top_p", params.top_p, kMinTopP, 1.0));
  FACET_TRY_STATUS(check_range("min_p", params.min_p, 0.0, 1.0));
  if (params.repetition_penalty != 0.0)
    FACET_TRY_STATUS(
        check_range("repetition_penalty", params.repetition_penalty, kMinPenalty, kMaxPenalty));
  FACET_TRY_STATUS(check_range("presence_penalty", params.presence_penalty, -kMaxAdditivePenalty,
                               kMaxAdditivePenalty));
  FACET_TRY_STATUS(check_range("frequency_penalty", params.frequency_penalty, -kMaxAdditivePenalty,
                               kMaxAdditivePenalty));
  if (params.logprobs && *params.logprobs > kMaxLogprobs)
    return Error(Code::kInvalidArgument, "logprobs " + std::to_string(*params.logprobs) +
                                             " is above " + std::to_string(kMaxLogprobs));
  if (params.max_tokens > 0 && params.min_tokens > params.max_tokens)
    return Error(Code::kInvalidArgument, "min_tokens " + std::to_string(params.min_tokens) +
                                             " is above max_tokens " +
                                             std::to_string(params.max_tokens));
  return {};
}

Sampler::Sampler(const SamplingParams& params, const SamplingDefaults& defaults,
                 std::span<const std::int32_t> prompt)
    : params_(params),
      defaults_(&defaults),
      repetition_penalty_(static_cast<float>(params.repetition_penalty != 0.0
                                                 ? params.repetition_penalty
                                                 : defaults.repetition_penalty)) {
  if (repetition_penalty_ == 1.0F) return;
  is_seen_.resize(static_cast<std::size_t>(defaults.vocab_size));
  for (const std::int32_t token : prompt) mark_seen(token);
}

void Sampler::mark_seen(std::int32_t token) {
  if (is_seen_.empty() || is_seen_[static_cast<std::size_t>(token)]) return;
  is_seen_[static_cast<std::size_t>(token)] = true;
  seen_.push_back(token);
}

void Sampler::observe(std::int32_t token) {
  mark_seen(token);
  ++num_observed_;
  if (params_.presence_penalty != 0.0 || params_.frequency_penalty != 0.0) ++counts_[token];
}

bool Sampler::changes_scores() const {
  return params_.temperature > 0.0 || !seen_.empty() || !counts_.empty() || must_not_end();
}

void Sampler::apply_penalties(std::span<float> scores) const {
  for (const std::int32_t token : seen_) {
    float& score = scores[static_cast<std::size_t>(token)];
    score = score < 0.0F ? score * repetition_penalty_ : score / repetition_penalty_;
  }
  for (const auto& [token, count] : counts_)
    scores[static_cast<std::size_t>(token)] -=
        static_cast<float>(params_.frequency_penalty * count + params_.presence_penalty);
  if (!must_not_end()) return;
  for (const std::int32_t token : defaults_->eos_token_ids)
    if (token < defaults_->vocab_size) scores[static_cast<std::size_t>(token)] = kMinusInfinity;
}

Result<std::int32_t> Sampler::choose(std::span<const float> logits,
                                     std::vector<float>& scratch) const {
  if (std::any_of(logits.begin(), logits.end(), [](float x) { return !std::isfinite(x); }))
    return Error(Code::kInternal, kNotFiniteMessage);
  std::span<const float> scores = logits;
  if (changes_scores()) {
    scratch.assign(logits.begin(), logits.end());
    apply_penalties(scratch);
    if (params_.temperature > 0.0) return draw(scratch);
    scores = scratch;
  }
  return static_cast<std::int32_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
}

std::int32_t Sampler::draw(std::span<float> scores) const {
  const auto temperature = static_cast<float>(params_.temperature);
  for (float& score : scores) score /= temperature;
  keep_top_k(scores, params_.top_k);
  keep_top_p(scores, params_.top_p);
  keep_min_p(scores, params_.min_p);
  const auto best = std::max_element(scores.begin(), scores.end());
  if (std::isinf(*best)) return static_cast<std::int32_t>(best - scores.begin());
  double sum = 0.0;
  for (const float score : scores) sum += std::exp(static_cast<double>(score) - *best);
  const double target = uniform_at(params_.seed, num_observed_) * sum;
  double below = 0.0;
  auto last = static_cast<std::int32_t>(best - scores.begin());
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (scores[i] == kMinusInfinity) continue;
    below += std::exp(static_cast<double>(scores[i]) - *best);
    last = static_cast<std::int32_t>(i);
    if (below > target) break;
  }
  return last;
}

namespace {

// What log_softmax() makes of the logits.
void add_logprobs(std::span<const float> logits, std::int32_t count, ChosenToken& chosen) {
  const double best = *std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - best);
  const double norm = best + std::log(sum);
  const auto logprob = [&](std::int32_t token) {
    return static_cast<float>(static_cast<double>(logits[static_cast<std::size_t>(token)]) - norm);
  };
  chosen.logprob = logprob(chosen.token);
  const auto all = static_cast<std::int32_t>(logits.size());
  std::vector<std::int32_t> best_tokens(static_cast<std::size_t>(std::min(count, all)));
  std::ranges::partial_sort_copy(std::views::iota(0, all), best_tokens,
                                 [&](std::int32_t a, std::int32_t b) {
                                   const float left = logits[static_cast<std::size_t>(a)];
                                   const float right = logits[static_cast<std::size_t>(b)];
                                   return left != right ? left > right : a < b;
                                 });
  for (const std::int32_t token : best_tokens) chosen.top.push_back({token, logprob(token)});
}

}  // namespace

ChosenToken choose_on_host(std::span<const float> logits, const SequenceChunk& chunk,
                           std::vector<float>& scratch) {
  FACET_CHECK(chunk.sampler != nullptr && chunk.sampler->num_observed() == chunk.answer_index);
  ChosenToken chosen;
  const Result<std::int32_t> token = chunk.sampler->choose(logits, scratch);
  chosen.not_finite = !token;
  if (!token) return chosen;
  chosen.token = *token;
  const std::int32_t count = chunk.sampler->num_logprobs();
  if (count >= 0) add_logprobs(logits, count, chosen);
  return chosen;
}

}  // namespace facet
