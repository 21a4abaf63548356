#include "worker/engine/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "worker/engine/philox.h"

namespace facet {
namespace {

const SamplingDefaults kDefaults{1.0, {3}, 4};

std::int32_t choose(const SamplingParams& params, const std::vector<float>& logits,
                    const std::vector<std::int32_t>& prompt = {},
                    const std::vector<std::int32_t>& answer = {},
                    const SamplingDefaults& defaults = kDefaults) {
  Sampler sampler(params, defaults, prompt);
  for (const std::int32_t token : answer) sampler.observe(token);
  std::vector<float> scratch;
  return *sampler.choose(logits, scratch);
}

// Known answers of the Random123 library (kat_vectors, philox 4x32 10).
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(philox({0, 0, 0, 0}, 0), (PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, 0xffffffffffffffff),
            (PhiloxBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0x299f31d0a4093822),
            (PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Sampler, GreedyTakesTheLowestIndexOnTies) {
  EXPECT_EQ(choose({}, {1, 5, 5, 5}), 1);
  EXPECT_EQ(choose({}, {-1, -1, -2, -1}), 0);
}

TEST(Sampler, RepetitionPenaltyActsOverPromptAndAnswerUnderGreedy) {
  SamplingParams params;
  params.repetition_penalty = 2.0;
  EXPECT_EQ(choose(params, {10, 6, 1, 1}), 0);
  EXPECT_EQ(choose(params, {10, 6, 1, 1}, {0, 0, 0}), 1);  // once, however often it was seen
  EXPECT_EQ(choose(params, {10, 6, 1, 1}, {0}, {1}), 0);   // 5 against 3
  EXPECT_EQ(choose(params, {-1, -1.5F, -9, -9}, {0}), 1);  // negative scores are multiplied
  SamplingParams from_file;
  EXPECT_EQ(choose(from_file, {10, 6, 1, 1}, {0}, {}, {2.0, {3}, 4}), 1);
}

TEST(Sampler, FrequencyAndPresenceCountTheAnswerOnly) {
  SamplingParams params;
  params.frequency_penalty = 1.0;
  EXPECT_EQ(choose(params, {3, 2, 0, 0}, {0, 0, 0}), 0);
  EXPECT_EQ(choose(params, {3, 2, 0, 0}, {}, {0, 0}), 1);
  params = {};
  params.presence_penalty = 1.5;
  EXPECT_EQ(choose(params, {3, 2, 0, 0}, {}, {0, 0, 0}), 1);
}

TEST(Sampler, NoEndTokenBeforeTheMinimum) {
  SamplingParams params;
  params.min_tokens = 2;
  EXPECT_EQ(choose(params, {1, 2, 3, 9}, {}, {0}), 2);
  EXPECT_EQ(choose(params, {1, 2, 3, 9}, {}, {0, 0}), 3);
}

TEST(Sampler, ALogitThatIsNotFiniteIsAnError) {
  using Limits = std::numeric_limits<float>;
  Sampler sampler({}, kDefaults, {});
  std::vector<float> scratch;
  for (const float logit : {Limits::quiet_NaN(), Limits::infinity(), -Limits::infinity()})
    EXPECT_FALSE(sampler.choose(std::vector<float>{0, logit, 0, 0}, scratch)) << logit;
  EXPECT_EQ(*sampler.choose(std::vector<float>{0, -Limits::max(), 1, 0}, scratch), 2);
}

// Draws of a token at many places of the answer follow the probabilities.
std::vector<double> frequencies(SamplingParams params, const std::vector<float>& logits) {
  const SamplingDefaults defaults{1.0, {}, static_cast<std::int32_t>(logits.size())};
  Sampler sampler(params, defaults, {});
  std::vector<double> counts(logits.size());
  std::vector<float> scratch;
  constexpr int kDraws = 20'000;
  for (int i = 0; i < kDraws; ++i) {
    const std::int32_t token = *sampler.choose(logits, scratch);
    counts[static_cast<std::size_t>(token)] += 1.0 / kDraws;
    sampler.observe(token);
  }
  return counts;
}

TEST(Sampler, DrawsFollowTheProbabilities) {
  SamplingParams params;
  params.temperature = 0.5;
  params.seed = 11;
  const std::vector<float> logits{0.0F, 0.5F, 1.0F, -1.0F};
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit / 0.5);
  const auto counts = frequencies(params, logits);
  for (std::size_t i = 0; i < logits.size(); ++i)
    EXPECT_NEAR(counts[i], std::exp(logits[i] / 0.5) / sum, 0.015);
}

TEST(Sampler, FiltersLeaveOutTheTail) {
  const std::vector<float> logits{std::log(0.5F), std::log(0.3F), std::log(0.15F), std::log(0.05F)};
  SamplingParams params;
  params.temperature = 1.0;
  params.top_k = 2;
  auto counts = frequencies(params, logits);
  EXPECT_EQ(counts[2] + counts[3], 0.0);
  EXPECT_NEAR(counts[0], 0.625, 0.015);
  params = {.temperature = 1.0, .top_p = 0.9};  // 0.5 + 0.3 + 0.15 is the first sum above it
  counts = frequencies(params, logits);
  EXPECT_EQ(counts[3], 0.0);
  EXPECT_GT(counts[2], 0.0);
  params = {.temperature = 1.0, .top_p = 1e-6};
  counts = frequencies(params, logits);
  EXPECT_NEAR(counts[0], 1.0, 1e-9);
  params = {.temperature = 1.0, .min_p = 0.31};
  counts = frequencies(params, logits);
  EXPECT_EQ(counts[2] + counts[3], 0.0);
  EXPECT_GT(counts[1], 0.0);
}

TEST(Sampler, TheSameSeedAndPlaceGiveTheSameToken) {
  SamplingParams params;
  params.temperature = 1.0;
  params.seed = 42;
  const SamplingDefaults defaults{1.0, {}, 200};
  const std::vector<float> logits(200, 0.0F);
  std::vector<float> scratch;
  Sampler whole(params, defaults, {});
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < 50; ++i) {
    tokens.push_back(*whole.choose(logits, scratch));
    whole.observe(tokens.back());
  }
  Sampler resumed(params, defaults, {});
  for (int i = 0; i < 20; ++i) resumed.observe(tokens[static_cast<std::size_t>(i)]);
  for (std::size_t i = 20; i < 50; ++i) {
    EXPECT_EQ(*resumed.choose(logits, scratch), tokens[i]);
    resumed.observe(tokens[i]);
  }
  params.seed = 43;
  Sampler other(params, defaults, {});
  std::vector<std::int32_t> others;
  for (int i = 0; i < 50; ++i) {
    others.push_back(*other.choose(logits, scratch));
    other.observe(others.back());
  }
  EXPECT_NE(tokens, others);
}

ChosenToken choose_with_logprobs(const SamplingParams& params, const std::vector<float>& logits) {
  const SamplingDefaults defaults{1.0, {}, static_cast<std::int32_t>(logits.size())};
  const Sampler sampler(params, defaults, {});
  SequenceChunk chunk;
  chunk.sampler = &sampler;
  std::vector<float> scratch;
  return choose_on_host(logits, chunk, scratch);
}

TEST(Sampler, LogprobsAreTheModelsOwn) {
  SamplingParams params;
  params.logprobs = 3;
  params.temperature = 0.1;  // what is told is untouched by it, and by the filters
  params.top_k = 1;
  const std::vector<float> logits{1.0F, 2.0F, 2.0F, -4.0F, 0.5F};
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
  const auto logprob = [&](std::size_t i) { return logits[i] - std::log(sum); };
  const ChosenToken chosen = choose_with_logprobs(params, logits);
  EXPECT_NEAR(chosen.logprob, logprob(static_cast<std::size_t>(chosen.token)), 1e-6);
  ASSERT_EQ(chosen.top.size(), 3u);
  for (const auto& [place, token] : {std::pair{0, 1}, {1, 2}, {2, 0}}) {  // ties: the lower id
    EXPECT_EQ(chosen.top[static_cast<std::size_t>(place)].token, token);
    EXPECT_NEAR(chosen.top[static_cast<std::size_t>(place)].logprob,
                logprob(static_cast<std::size_t>(token)), 1e-6);
  }
  params.logprobs = 0;
  EXPECT_TRUE(choose_with_logprobs(params, logits).top.empty());
  EXPECT_NEAR(choose_with_logprobs(params, logits).logprob, logprob(1), 1e-6);
  params.logprobs = 20;  // more than there are
  EXPECT_EQ(choose_with_logprobs(params, logits).top.size(), 5u);
  params.logprobs.reset();
  EXPECT_EQ(choose_with_logprobs(params, logits).logprob, 0.0F);
  EXPECT_TRUE(choose_with_logprobs(params, logits).top.empty());
}

}  // namespace
}  // namespace facet
