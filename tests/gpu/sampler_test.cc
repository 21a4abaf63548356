// The sampler against the engine's own on the CPU, over many steps of many lanes at once.
#include "kernels/sampling/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <random>

#include "tests/gpu/device_data.h"
#include "worker/engine/sampler.h"

namespace facet::kernels {
namespace {

using Size = std::size_t;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Case {
  std::string name;
  SamplingParams params;
  bool draws = false;
};

Case make(const std::string& name, const std::function<void(SamplingParams&)>& set) {
  Case made;
  made.name = name;
  made.params.temperature = 0.0;
  made.params.top_p = 1.0;
  made.params.top_k = 0;
  made.params.min_p = 0.0;
  set(made.params);
  made.draws = made.params.temperature > 0.0;
  return made;
}

std::vector<Case> cases() {
  const auto sharp = [](SamplingParams& p) {
    p.temperature = 0.7;
    p.top_p = 0.8;
    p.top_k = 20;
  };
  return {
      make("greedy", [](SamplingParams&) {}),
      make("greedy repetition", [](SamplingParams& p) { p.repetition_penalty = 1.3; }),
      make("greedy presence, frequency",
           [](SamplingParams& p) {
             p.presence_penalty = 1.5;
             p.frequency_penalty = 0.7;
           }),
      make("greedy all penalties, min_tokens",
           [](SamplingParams& p) {
             p.repetition_penalty = 0.8;
             p.presence_penalty = -0.5;
             p.frequency_penalty = 0.3;
             p.min_tokens = 6;
           }),
      make("temperature 1", [](SamplingParams& p) { p.temperature = 1.0; }),
      make("temperature 2", [](SamplingParams& p) { p.temperature = 2.0; }),
      make("temperature 0.01", [](SamplingParams& p) { p.temperature = 0.01; }),
      make("top_k 1",
           [](SamplingParams& p) {
             p.temperature = 1.0;
             p.top_k = 1;
           }),
      make("top_k 50",
           [](SamplingParams& p) {
             p.temperature = 1.5;
             p.top_k = 50;
           }),
      make("top_k all",
           [](SamplingParams& p) {
             p.temperature = 1.0;
             p.top_k = 1U << 30;
           }),
      make("top_p 0.9",
           [](SamplingParams& p) {
             p.temperature = 1.0;
             p.top_p = 0.9;
           }),
      make("top_p 0.001",
           [](SamplingParams& p) {
             p.temperature = 1.0;
             p.top_p = 0.001;
           }),
      make("min_p 0.1",
           [](SamplingParams& p) {
             p.temperature = 1.2;
             p.min_p = 0.1;
           }),
      make("temperature, top_k, top_p", sharp),
      make("all at once",
           [&](SamplingParams& p) {
             sharp(p);
             p.min_p = 0.02;
             p.repetition_penalty = 1.1;
             p.presence_penalty = 0.4;
             p.frequency_penalty = 0.2;
             p.min_tokens = 5;
           }),
  };
}

SamplingLane lane_of(const Sampler& sampler) {
  const SamplingParams& params = sampler.params();
  SamplingLane lane;
  lane.top_p = params.top_p;
  lane.min_p = params.min_p;
  lane.presence_penalty = params.presence_penalty;
  lane.frequency_penalty = params.frequency_penalty;
  lane.seed = params.seed;
  lane.temperature = static_cast<float>(params.temperature);
  lane.repetition_penalty = sampler.repetition_penalty();
  lane.top_k = static_cast<std::uint32_t>(params.top_k);
  lane.min_tokens = static_cast<std::uint32_t>(params.min_tokens);
  return lane;
}

// Logits with a few likely tokens, many ties (rounded to the type), and the ends among the best.
std::vector<float> logits_of(DType dtype, Size vocab, std::mt19937& random,
                             const std::vector<std::int32_t>& ends) {
  std::normal_distribution<float> normal(0.0F, 3.0F);
  std::vector<float> logits(vocab);
  for (float& logit : logits) logit = round_to(dtype, normal(random) - 4.0F);
  for (Size i = 0; i < 30; ++i)
    logits[random() % std::min<Size>(vocab, 40)] = round_to(dtype, 8.0F + normal(random) / 2);
  for (const std::int32_t end : ends)
    if (static_cast<Size>(end) < vocab) logits[static_cast<Size>(end)] = 17.0F;
  if (vocab > 8) logits[7] = round_to(dtype, -60000.0F);
  return logits;
}

// Every case in a lane of its own, rows in another order than lanes with unused ones between.
void compare(DType dtype, Size vocab, Size steps) {
  std::mt19937 random(next_seed());
  std::vector<Case> all = cases();
  SamplingDefaults defaults;
  defaults.vocab_size = static_cast<std::int32_t>(vocab);
  defaults.eos_token_ids = {static_cast<std::int32_t>(vocab / 2), 3,
                            static_cast<std::int32_t>(vocab) + 5};
  const Size lanes = all.size(), rows = lanes + 2;
  std::vector<Sampler> samplers;
  std::vector<SamplingLane> host_lanes;
  DeviceBytes states(lanes * vocab * sizeof(TokenState));
  for (Size i = 0; i < lanes; ++i) {
    all[i].params.seed = (static_cast<std::uint64_t>(random()) << 32) | random();
    std::vector<std::int32_t> tokens(20);  // the last four answered on an earlier attempt
    for (auto& token : tokens)
      token = static_cast<std::int32_t>(random() % std::min<Size>(vocab, 40));
    samplers.emplace_back(all[i].params, defaults, std::span(tokens).first(16));
    for (const std::int32_t token : std::span(tokens).last(4)) samplers[i].observe(token);
    host_lanes.push_back(lane_of(samplers[i]));
    host_lanes[i].num_observed = 4;
    const DeviceBytes ids = upload_raw(tokens);
    FACET_CUDA_OK(reset_token_state(static_cast<TokenState*>(states.get()) + i * vocab,
                                    defaults.vocab_size,
                                    static_cast<const std::int32_t*>(ids.get()), 16, 4, {}));
    FACET_CUDA_OK(cudaDeviceSynchronize());
  }
  std::vector<std::int32_t> row_lane(rows, -1);
  for (Size i = 0; i < lanes; ++i) row_lane[i + 1] = static_cast<std::int32_t>(lanes - 1 - i);
  const DeviceBytes device_lanes = upload_raw(host_lanes), device_rows = upload_raw(row_lane);
  const DeviceBytes out(rows * sizeof(SampledToken));
  const DeviceBytes last(lanes * 4);

  SamplerShape shape;
  shape.rows = static_cast<std::int32_t>(rows);
  shape.vocab = defaults.vocab_size;
  const Size stride = vocab + (random() % 2 == 0 ? 3 : 16 - vocab % 16);  // aligned or not
  shape.logits_stride = static_cast<std::int64_t>(stride);
  shape.logits_dtype = dtype;
  for (const std::int32_t end : defaults.eos_token_ids) shape.eos[shape.num_eos++] = end;
  Size draws = 0, differ = 0;
  std::vector<std::int32_t> chosen(lanes);
  for (Size step = 0; step < steps; ++step) {
    std::vector<float> logits(rows * stride, NAN);
    for (Size row = 1; row <= lanes; ++row)
      std::ranges::copy(logits_of(dtype, vocab, random, defaults.eos_token_ids),
                        logits.begin() + static_cast<std::ptrdiff_t>(row * stride));
    const DeviceBytes device_logits = upload(dtype, logits);
    SamplerArgs args;
    args.logits = device_logits.get();
    args.row_lane = static_cast<const std::int32_t*>(device_rows.get());
    args.lanes = static_cast<SamplingLane*>(device_lanes.get());
    args.states = static_cast<TokenState*>(states.get());
    args.out = static_cast<SampledToken*>(out.get());
    args.last_tokens = static_cast<std::int32_t*>(last.get());
    FACET_CUDA_OK(sample_tokens(shape, args, {}));
    FACET_CUDA_OK(cudaDeviceSynchronize());
    const auto got = download_raw<SampledToken>(out, rows);
    EXPECT_EQ(got.front().status, SampleStatus::kUnused);
    EXPECT_EQ(got.back().status, SampleStatus::kUnused);
    std::vector<float> scratch;
    for (Size row = 1; row <= lanes; ++row) {
      const auto lane = static_cast<Size>(row_lane[row]);
      const auto want =
          samplers[lane].choose(std::span(logits).subspan(row * stride, vocab), scratch);
      ASSERT_TRUE(want);
      ASSERT_EQ(got[row].status, SampleStatus::kOk) << all[lane].name;
      if (!all[lane].draws)
        ASSERT_EQ(got[row].token, *want) << all[lane].name << ", step " << step;
      else if (++draws; got[row].token != *want)
        std::printf("  %s, step %zu: %d, the CPU %d\n", all[lane].name.c_str(), step,
                    got[row].token, *want),
            ++differ;
      ASSERT_TRUE(got[row].token >= 0 && got[row].token < shape.vocab);
      samplers[lane].observe(got[row].token);  // both go on from the same token
      chosen[lane] = got[row].token;
    }
  }
  const auto after = download_raw<SamplingLane>(device_lanes, lanes);
  for (const SamplingLane& lane : after) EXPECT_EQ(lane.num_observed, 4 + steps);
  EXPECT_EQ(download_raw<std::int32_t>(last, lanes), chosen);
  std::printf("sampler %s, vocabulary %zu: %zu draws, %zu differ\n", name_of(dtype).c_str(), vocab,
              draws, differ);
  EXPECT_LE(differ, 1 + draws / 1000);  // where the number falls on a boundary
}

TEST(Sampler, EqualsTheEngine) {
  for (const DType dtype : {DType::kBf16, DType::kFp16, DType::kFp32})
    for (const Size vocab : {151936, 1000, 33, 9}) compare(dtype, vocab, vocab > 100000 ? 12 : 60);
}

// One row, one lane; what the edge tests share.
struct OneRow {
  std::vector<float> logits;
  SamplingLane lane;
  SamplerShape shape;
  std::vector<std::int32_t> top_ids;
  std::vector<float> top_logprobs;

  SampledToken sample() {
    const DeviceBytes in = upload_raw(logits), out(sizeof(SampledToken));
    const DeviceBytes ids(4 * kMaxTopLogprobs), logprobs(4 * kMaxTopLogprobs);
    const DeviceBytes lanes = upload_raw(std::vector<SamplingLane>{lane});
    shape.rows = 1;
    shape.vocab = static_cast<std::int32_t>(logits.size());
    shape.logits_stride = shape.vocab;
    shape.logits_dtype = DType::kFp32;
    SamplerArgs args;
    args.logits = in.get();
    args.lanes = static_cast<SamplingLane*>(lanes.get());
    args.out = static_cast<SampledToken*>(out.get());
    args.top_ids = static_cast<std::int32_t*>(ids.get());
    args.top_logprobs = static_cast<float*>(logprobs.get());
    check_cuda(sample_tokens(shape, args, {}), "sample_tokens");
    check_cuda(cudaDeviceSynchronize(), "the sampler");
    top_ids = download_raw<std::int32_t>(ids, kMaxTopLogprobs);
    top_logprobs = download_raw<float>(logprobs, kMaxTopLogprobs);
    lane = download_raw<SamplingLane>(lanes, 1)[0];
    return download_raw<SampledToken>(out, 1)[0];
  }
};

TEST(Sampler, Edges) {
  OneRow row;
  row.logits.assign(5000, 1.0F);
  EXPECT_EQ(row.sample().token, 0);  // the lowest of equals
  row.logits.assign(5000, -3e38F);
  row.lane.temperature = 0.5F;  // infinite scores of finite logits: the lowest of equals
  EXPECT_EQ(row.sample().token, 0);
  row.logits[4321] = 3e38F;
  EXPECT_EQ(row.sample().token, 4321);
  row.logits.assign(5000, -0.0F);
  row.logits[11] = 0.0F;  // not above -0
  row.lane.temperature = 0.0F;
  EXPECT_EQ(row.sample().token, 0);
  EXPECT_EQ(row.lane.num_observed, 4U);
}

TEST(Sampler, ALogitThatIsNotFinite) {
  OneRow row;
  for (const float temperature : {0.0F, 0.7F})
    for (const float logit : {NAN, kInfinity, -kInfinity})
      for (const Size at : {0, 31, 1024, 4999}) {
        row.logits.assign(5000, 0.0F);
        row.logits[at] = logit;
        row.lane.temperature = temperature;
        const SampledToken got = row.sample();
        EXPECT_EQ(got.status, SampleStatus::kNotFinite) << logit << " at " << at;
        EXPECT_EQ(got.token, -1);
        EXPECT_EQ(row.lane.num_observed, 0U);  // the lane stays as it was
      }
}

// Equal scores and top_p: the lower indices are the tail, as in the engine.
TEST(Sampler, TiesAtTheEdgeOfTopP) {
  OneRow row;
  row.logits.assign(4000, 2.0F);
  row.lane.temperature = 1.0F;
  row.lane.top_p = 0.25;
  for (int i = 0; i < 50; ++i) {
    const SampledToken got = row.sample();
    EXPECT_GE(got.token, 2999);
    EXPECT_LT(got.token, 4000);
  }
}

// Drawn frequencies are the probabilities.
TEST(Sampler, Frequencies) {
  OneRow row;
  row.logits = {0.0F, std::log(2.0F), std::log(3.0F), std::log(4.0F)};
  row.lane.temperature = 1.0F;
  row.lane.seed = next_seed();
  std::vector<int> counts(4);
  constexpr int kDraws = 2000;
  for (int i = 0; i < kDraws; ++i) ++counts[static_cast<Size>(row.sample().token)];
  for (Size i = 0; i < 4; ++i)
    EXPECT_NEAR(counts[i] / double{kDraws}, 0.1 * static_cast<double>(i + 1), 0.06);  // 5 sigma
}

TEST(Sampler, Logprobs) {
  for (const Size vocab : {5, 20, 1000, 151936}) {
    OneRow row;
    row.logits = random_values(DType::kBf16, vocab, 4.0F);
    row.lane.temperature = 0.5F;
    row.lane.num_logprobs = kMaxTopLogprobs;
    const SampledToken got = row.sample();
    std::vector<std::int32_t> order(vocab);
    std::iota(order.begin(), order.end(), 0);
    const auto logit = [&](std::int32_t i) {
      return static_cast<double>(row.logits[static_cast<Size>(i)]);
    };
    std::ranges::stable_sort(order, [&](auto a, auto b) { return logit(a) > logit(b); });
    double sum = 0;
    for (const std::int32_t i : order) sum += std::exp(logit(i) - logit(order[0]));
    const double norm = logit(order[0]) + std::log(sum);
    EXPECT_NEAR(got.logprob, logit(got.token) - norm, 1e-5);
    ASSERT_EQ(got.num_top, static_cast<std::int32_t>(std::min<Size>(vocab, kMaxTopLogprobs)));
    for (Size n = 0; n < static_cast<Size>(got.num_top); ++n) {
      EXPECT_EQ(row.top_ids[n], order[n]) << vocab << " " << n;
      EXPECT_NEAR(row.top_logprobs[n], logit(order[n]) - norm, 1e-5);
    }
  }
}

TEST(Sampler, RefusesWhatItCannotDo) {
  const DeviceBytes memory(1 << 16);
  SamplerShape shape;
  shape.rows = 1;
  shape.vocab = 100;
  shape.logits_stride = 100;
  SamplerArgs args;
  args.logits = memory.get();
  args.lanes = static_cast<SamplingLane*>(memory.get());
  args.out = static_cast<SampledToken*>(memory.get());
  const auto refused = [&](auto change) {
    SamplerShape bad = shape;
    change(bad);
    return sample_tokens(bad, args, {}) == cudaErrorInvalidValue;
  };
  EXPECT_TRUE(refused([](SamplerShape& s) { s.vocab = 0; }));
  EXPECT_TRUE(refused([](SamplerShape& s) { s.logits_stride = 99; }));
  EXPECT_TRUE(refused([](SamplerShape& s) {
    s.vocab = kMaxSampledVocab + 1;
    s.logits_stride *= 9999;
  }));
  EXPECT_TRUE(refused([](SamplerShape& s) { s.num_eos = kMaxEosTokens + 1; }));
  EXPECT_TRUE(refused([](SamplerShape& s) { s.rows = -1; }));
  args.top_ids = static_cast<std::int32_t*>(memory.get());
  EXPECT_TRUE(refused([](SamplerShape&) {}));  // and no place for the log probabilities
}

}  // namespace
}  // namespace facet::kernels
