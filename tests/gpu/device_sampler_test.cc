// The worker's sampler on the device against the engine's own: lanes that begin and end at any
// time, with what they have seen; two steps in flight; log probabilities.
#include "worker/model/cuda/device_sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <deque>
#include <memory>
#include <random>

#include "tests/gpu/device_data.h"
#include "worker/engine/sampler.h"

namespace facet {
namespace {

using kernels::check_cuda;
using kernels::DeviceBytes;
using kernels::DType;
using Size = std::size_t;

constexpr std::int32_t kLanes = 7;
constexpr std::int32_t kVocab = 1003;
constexpr std::int64_t kContext = 64;
constexpr std::int32_t kRows = kLanes + 1;

template <class T>
T one_of(std::mt19937& random, std::initializer_list<T> values) {
  return values.begin()[random() % values.size()];
}

SamplingParams random_params(std::mt19937& random) {
  SamplingParams params;
  params.temperature = one_of(random, {0.0, 0.0, 0.7, 1.5});
  params.top_k = one_of(random, {0U, 0U, 1U, 20U});
  params.top_p = one_of(random, {1.0, 0.9, 0.3});
  params.min_p = one_of(random, {0.0, 0.0, 0.1});
  params.repetition_penalty = one_of(random, {0.0, 1.0, 1.3, 0.8});  // 0: the checkpoint's
  params.presence_penalty = one_of(random, {0.0, 0.0, 1.5});
  params.frequency_penalty = one_of(random, {0.0, 0.0, 0.4});
  params.min_tokens = one_of(random, {0U, 5U});
  params.seed = (static_cast<std::uint64_t>(random()) << 32) | random();
  const int logprobs = one_of(random, {-1, -1, 0, 5, 20});
  if (logprobs >= 0) params.logprobs = static_cast<std::uint32_t>(logprobs);
  return params;
}

// Few likely tokens, so that penalties of what was seen decide.
std::vector<float> random_logits(DType dtype, std::mt19937& random) {
  std::normal_distribution<float> normal(0.0F, 3.0F);
  std::vector<float> logits(kVocab);
  for (float& logit : logits) logit = kernels::round_to(dtype, normal(random) - 4.0F);
  for (int i = 0; i < 30; ++i)
    logits[random() % 40] = kernels::round_to(dtype, 8.0F + normal(random) / 2);
  return logits;
}

// A sequence in a lane. The sampler lags behind what was launched, as the engine's does.
struct Running {
  std::unique_ptr<Sampler> sampler;
  std::uint32_t next_index = 0;
  int steps_left = 0;
  int prefills_left = 0;  // chunks that choose nothing yet
  bool has_begun = false;
  bool is_bad_at_end = false;
};

struct Row {
  std::shared_ptr<Running> running;
  std::uint32_t answer_index = 0;
  std::int32_t at = 0;
  bool is_bad = false;
};

class Load {
 public:
  Load(DType dtype, std::uint32_t seed)
      : dtype_(dtype),
        random_(seed),
        sizes_{dtype, kRows, kVocab, kContext},  // as many rows as lanes at most
        region_(cut_bytes<SamplerRegions>(sizes_)),
        rows_{DeviceBytes(kRows * 4), DeviceBytes(kRows * 4)},
        logits_{DeviceBytes(logits_bytes()), DeviceBytes(logits_bytes())},
        sampler_(sizes_, std::vector<std::int32_t>{3, 17}, region_.get(), stream_.get()) {
    defaults_.repetition_penalty = 1.1;
    defaults_.eos_token_ids = {3, 17};
    defaults_.vocab_size = kVocab;
  }

  void run(int steps) {
    for (int step = 0; step < steps; ++step) {
      if (in_flight_.size() == DeviceSampler::kSlots) collect();
      launch();
      if (random_() % 5 == 0)
        while (!in_flight_.empty()) collect();
      if (::testing::Test::HasFatalFailure()) return;
    }
    while (!in_flight_.empty()) collect();
  }

  Size num_compared = 0, num_draws = 0, num_differ = 0, num_bad = 0, num_begun = 0, num_top = 0;

 private:
  struct Step {
    explicit Step(int at) : slot(at) {}
    int slot;
    std::vector<Row> rows;
    std::vector<float> logits;  // [kRows, vocab]
    CudaEvent done;
  };

  Size logits_bytes() const { return Size{kRows} * kVocab * kernels::size_of(dtype_); }

  std::int32_t random_token() { return static_cast<std::int32_t>(random_() % 40); }

  std::shared_ptr<Running> begin() {
    auto running = std::make_shared<Running>();
    const Size prompt = 1 + random_() % 40, answered = random_() % 2 * (random_() % 12);
    std::vector<std::int32_t> tokens(prompt);
    for (auto& token : tokens) token = random_token();
    running->sampler = std::make_unique<Sampler>(random_params(random_), defaults_, tokens);
    for (Size i = 0; i < answered; ++i) running->sampler->observe(random_token());
    running->next_index = running->sampler->num_observed();
    running->steps_left = 1 + static_cast<int>(random_() % 12);
    running->prefills_left = static_cast<int>(random_() % 3);
    running->is_bad_at_end = random_() % 8 == 0;
    ++num_begun;
    return running;
  }

  void launch() {
    auto step = std::make_unique<Step>(static_cast<int>(num_launched_++ % DeviceSampler::kSlots));
    std::vector<SequenceChunk> chunks;
    std::vector<std::int32_t> row_lane(kRows, -1);
    std::int32_t next_row = static_cast<std::int32_t>(random_() % 2);  // an unused one before
    step->logits.assign(Size{kRows} * kVocab, NAN);
    for (std::int32_t lane = 0; lane < kLanes; ++lane) {
      auto& running = lanes_[lane];
      if (running == nullptr && random_() % 2 == 0) running = begin();
      if (running == nullptr || random_() % 4 == 0) continue;  // this step is without it
      SequenceChunk& chunk = chunks.emplace_back();
      chunk.lane = lane;
      chunk.starts_lane = !std::exchange(running->has_begun, true);
      if (running->prefills_left-- > 0) continue;
      chunk.sampler = running->sampler.get();
      chunk.answer_index = running->next_index++;
      --running->steps_left;
      Row row{running, chunk.answer_index, next_row++,
              running->steps_left == 0 && running->is_bad_at_end};
      row_lane[static_cast<Size>(row.at)] = lane;
      auto logits = random_logits(dtype_, random_);
      if (row.is_bad) logits[random_() % kVocab] = one_of(random_, {NAN, INFINITY, -INFINITY});
      std::ranges::copy(logits, step->logits.begin() + std::ptrdiff_t{row.at} * kVocab);
      if (running->steps_left == 0) running = nullptr;  // the lane is another's from here on
      step->rows.push_back(std::move(row));
    }
    sampler_.begin_lanes(chunks, step->slot);
    send(*step, row_lane, next_row);
    in_flight_.push_back(std::move(step));
  }

  void send(Step& step, const std::vector<std::int32_t>& row_lane, std::int32_t count) {
    std::vector<std::uint16_t> narrow;
    const void* from = step.logits.data();
    if (dtype_ != DType::kFp32) {
      auto* const narrowed = dtype_ == DType::kFp16 ? kernels::to_fp16 : kernels::to_bf16;
      for (const float x : step.logits) narrow.push_back(narrowed(x));
      from = narrow.data();
    }
    void* const logits = logits_[step.slot].get();
    void* const rows = rows_[step.slot].get();
    check_cuda(cudaMemcpyAsync(logits, from, logits_bytes(), cudaMemcpyHostToDevice, stream_.get()),
               "logits");
    check_cuda(
        cudaMemcpyAsync(rows, row_lane.data(), kRows * 4, cudaMemcpyHostToDevice, stream_.get()),
        "rows");
    sampler_.sample(logits, static_cast<const std::int32_t*>(rows), count, {stream_.get(), true});
    bool with_top = false;
    for (const Row& row : step.rows) with_top |= row.running->sampler->num_logprobs() > 0;
    sampler_.fetch(count, with_top, step.slot);
    step.done.record(stream_.get());
  }

  void collect() {
    const std::unique_ptr<Step> step = std::move(in_flight_.front());
    in_flight_.pop_front();
    step->done.wait();
    for (const Row& row : step->rows) compare(*step, row);
  }

  void compare(const Step& step, const Row& row) {
    Sampler& sampler = *row.running->sampler;
    SequenceChunk chunk;
    chunk.sampler = &sampler;
    chunk.answer_index = row.answer_index;
    std::vector<float> scratch;
    const auto logits = std::span(step.logits).subspan(static_cast<Size>(row.at) * kVocab, kVocab);
    const ChosenToken want = choose_on_host(logits, chunk, scratch);
    const ChosenToken got = sampler_.result(step.slot, row.at, sampler.num_logprobs());
    ASSERT_EQ(got.not_finite, row.is_bad);
    ASSERT_EQ(got.not_finite, want.not_finite);
    num_bad += got.not_finite;
    if (got.not_finite) return;
    ++num_compared;
    const bool draws = sampler.params().temperature > 0.0;
    num_draws += draws;
    if (got.token != want.token) {
      ++num_differ;
      ASSERT_TRUE(draws) << "greedy: " << got.token << ", the CPU " << want.token;
      ASSERT_TRUE(got.token >= 0 && got.token < kVocab);
    } else {
      EXPECT_NEAR(got.logprob, want.logprob, 1e-4);
    }
    ASSERT_EQ(got.top.size(), want.top.size());
    num_top += got.top.size();
    for (Size i = 0; i < got.top.size(); ++i) {
      EXPECT_EQ(got.top[i].token, want.top[i].token);
      EXPECT_NEAR(got.top[i].logprob, want.top[i].logprob, 1e-4);
    }
    sampler.observe(got.token);  // both go on from the same token
  }

  DType dtype_;
  std::mt19937 random_;
  SamplingDefaults defaults_;
  DeviceSamplerSizes sizes_;
  CudaStream stream_;
  DeviceBytes region_;
  DeviceBytes rows_[DeviceSampler::kSlots], logits_[DeviceSampler::kSlots];
  DeviceSampler sampler_;
  std::shared_ptr<Running> lanes_[kLanes];
  std::deque<std::unique_ptr<Step>> in_flight_;
  std::uint64_t num_launched_ = 0;
};

TEST(DeviceSampler, EqualsTheEnginesUnderLoad) {
  for (const DType dtype : {DType::kBf16, DType::kFp16, DType::kFp32}) {
    Load load(dtype, kernels::next_seed());
    load.run(1500);
    std::printf("%s: %zu sequences, %zu tokens, %zu of %zu draws differ, %zu top, %zu not finite\n",
                kernels::name_of(dtype).c_str(), load.num_begun, load.num_compared, load.num_differ,
                load.num_draws, load.num_top, load.num_bad);
    EXPECT_GT(load.num_begun, 500U);
    EXPECT_GT(load.num_compared, 3000U);
    EXPECT_GT(load.num_top, 5000U);
    EXPECT_GT(load.num_bad, 10U);
    EXPECT_LE(load.num_differ, 1 + load.num_draws / 1000);  // the number falls on a boundary
  }
}

// All lanes begin in one step, each with as long a history as there is: more than the memory that
// brings histories over holds at once.
TEST(DeviceSampler, HistoriesOfAllLanesInOneStep) {
  const DeviceSamplerSizes sizes{DType::kFp32, kLanes, kVocab, kContext};
  const CudaStream stream;
  const DeviceBytes region(cut_bytes<SamplerRegions>(sizes));
  DeviceSampler sampler(sizes, {}, region.get(), stream.get());
  std::mt19937 random(kernels::next_seed());
  SamplingDefaults defaults;
  defaults.vocab_size = kVocab;
  SamplingParams params;
  params.repetition_penalty = 1.3;
  params.frequency_penalty = 0.5;
  std::vector<std::unique_ptr<Sampler>> samplers;
  std::vector<SequenceChunk> chunks(kLanes);
  std::vector<std::int32_t> row_lane;
  std::vector<float> logits;
  for (std::int32_t lane = 0; lane < kLanes; ++lane) {
    std::vector<std::int32_t> prompt(4);
    for (auto& token : prompt) token = static_cast<std::int32_t>(random() % kVocab);
    auto& made = samplers.emplace_back(std::make_unique<Sampler>(params, defaults, prompt));
    for (int i = 0; i < 60; ++i) made->observe(static_cast<std::int32_t>(random() % kVocab));
    auto& chunk = chunks[static_cast<Size>(lane)];
    chunk.lane = lane;
    chunk.starts_lane = true;
    chunk.sampler = made.get();
    chunk.answer_index = made->num_observed();
    row_lane.push_back(lane);
    // What was seen is the best by less than its penalty.
    std::vector<float> row(kVocab, 1.0F);
    for (const std::int32_t token : made->seen()) row[static_cast<Size>(token)] = 1.2F;
    logits.insert(logits.end(), row.begin(), row.end());
  }
  const DeviceBytes dlogits = kernels::upload_raw(logits), drows = kernels::upload_raw(row_lane);
  sampler.begin_lanes(chunks, 1);
  sampler.sample(dlogits.get(), static_cast<const std::int32_t*>(drows.get()), kLanes,
                 {stream.get(), false});
  sampler.fetch(kLanes, false, 1);
  check_cuda(cudaStreamSynchronize(stream.get()), "the sampler");
  std::vector<float> scratch;
  for (std::int32_t lane = 0; lane < kLanes; ++lane) {
    const auto at = static_cast<Size>(lane);
    const ChosenToken want =
        choose_on_host(std::span(logits).subspan(at * kVocab, kVocab), chunks[at], scratch);
    EXPECT_EQ(sampler.result(1, lane, -1).token, want.token) << lane;
  }
  std::vector<std::int32_t> chosen(kLanes);
  check_cuda(cudaMemcpy(chosen.data(), sampler.chosen(), kLanes * 4, cudaMemcpyDeviceToHost),
             "chosen tokens");
  for (std::int32_t lane = 0; lane < kLanes; ++lane)
    EXPECT_EQ(chosen[static_cast<Size>(lane)], sampler.result(1, lane, -1).token);
}

}  // namespace
}  // namespace facet
