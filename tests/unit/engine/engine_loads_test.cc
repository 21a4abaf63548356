// Random loads on the engine: whatever the pool, the chunks, the neighbours, preemptions, caches
// and steps in flight, every answer is the one that an undisturbed model gives.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "tests/unit/engine/fake_model.h"

namespace facet {
namespace {

using Kind = SequenceEnd::Kind;

struct Asked {
  SequenceSpec spec;
  std::vector<std::int32_t> ids;
  std::string text;
  std::vector<TokenLogprob> logprobs;
  SequenceEnd end;
  bool ended = false;
  bool cancelled = false;
};

struct Totals {  // over all seeds: each kind of disturbance must have come up
  int preempted = 0;
  int cancelled = 0;
  int adopted_tokens = 0;
  int chosen_before = 0;
};

class Load {
 public:
  explicit Load(std::uint32_t seed) : random_(seed) {
    options_.lanes = pick(1, 9);
    options_.step_tokens = options_.lanes + pick(0, 20);
    options_.block_tokens = pick(1, 7);
    options_.encoder_rows = pick(16, 40);
    options_.blocks = 100 / options_.block_tokens + 1 + pick(0, 40);
    options_.max_model_len = 100;
    options_.max_in_flight = pick(1, 3);
    options_.prefix_cache = pick(0, 3) > 0;
    fake_ = make_fake_engine(options_);
    for (std::size_t i = 0; i < pixels_.size(); ++i) pixels_[i] = static_cast<std::uint8_t>(i);
  }

  void run(Totals& totals) {
    int to_come = 40;
    for (int i = 0; to_come > 0 || fake_.engine->has_work(); ++i) {
      ASSERT_LT(i, 20'000);
      for (; to_come > 0 && pick(0, 3) == 0; --to_come) ask();
      if (pick(0, 30) == 0) cancel_one(totals);
      if (!fake_.engine->has_work()) continue;
      const auto updates = fake_.engine->step();
      ASSERT_TRUE(updates) << updates.error().message;
      for (const SequenceUpdate& update : *updates) take(update, totals);
      const Status conserved = fake_.engine->check_conservation();
      ASSERT_TRUE(conserved) << conserved.error().message;
      if (::testing::Test::HasFailure()) return;
    }
    for (auto& [id, asked] : asked_) check(asked);
    EXPECT_EQ(fake_.engine->kv_blocks_free(), fake_.engine->kv_blocks_total());
    EXPECT_LE(fake_.runner->most_in_flight, options_.max_in_flight);
    EXPECT_TRUE(options_.prefix_cache || fake_.engine->kv_blocks_cached() == 0);
    totals.adopted_tokens += fake_.runner->num_adopted;
    totals.chosen_before += fake_.runner->num_chosen_before;
  }

 private:
  int pick(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }
  bool one_in(int n) { return pick(1, n) == 1; }
  const SequenceSpec& earlier() {
    return std::next(asked_.begin(), pick(0, static_cast<int>(asked_.size()) - 1))->second.spec;
  }

  void draw_sampling(SamplingParams& params) {
    params.max_tokens = static_cast<std::uint32_t>(pick(1, 30));
    params.min_tokens =
        one_in(3) ? static_cast<std::uint32_t>(pick(0, static_cast<int>(params.max_tokens))) : 0;
    params.ignore_eos = one_in(5);
    params.seed = static_cast<std::uint64_t>(pick(0, 1'000'000));
    if (one_in(2)) params.temperature = pick(1, 20) / 10.0;
    if (one_in(4)) params.top_p = pick(3, 10) / 10.0;
    if (one_in(4)) params.top_k = static_cast<std::uint32_t>(pick(1, 12));
    if (one_in(6)) params.min_p = 0.1;
    if (one_in(4)) params.repetition_penalty = pick(5, 20) / 10.0;
    if (one_in(6)) params.presence_penalty = pick(-2, 2);
    if (one_in(6)) params.frequency_penalty = pick(-2, 2) / 2.0;
    if (one_in(3)) params.logprobs = static_cast<std::uint32_t>(pick(0, 5));
    for (int i = one_in(4) ? pick(1, 3) : 0; i > 0; --i) {
      params.stop.emplace_back();
      for (int length = pick(1, 3); length > 0; --length)
        params.stop.back() += static_cast<char>('a' + pick(0, 25));
    }
  }

  void ask() {
    SequenceSpec spec = text_spec(std::string(static_cast<std::size_t>(pick(1, 20)), 'q'), 1);
    spec.request.priority = static_cast<Priority>(pick(0, 1));
    for (int image = pick(0, 2); image-- > 0;)
      add_image(spec, &pixels_[static_cast<std::size_t>(pick(0, 255))],
                static_cast<std::uint32_t>(pick(1, 16)));
    if (!asked_.empty() && one_in(2)) {  // begins as another did, with its images or with others
      spec.request.messages = earlier().request.messages;
      const auto& like = earlier();
      if (like.images.size() >= count_images(spec.request) && one_in(2)) {
        spec.images = like.images;
      } else {
        spec.images.clear();
        SequenceSpec scratch = text_spec("", 1);
        for (std::size_t i = 0; i < count_images(spec.request); ++i)
          add_image(scratch, &pixels_[static_cast<std::size_t>(pick(0, 3))],
                    static_cast<std::uint32_t>(pick(1, 16)));
        spec.images = scratch.images;
      }
      spec.images.resize(count_images(spec.request));
      if (one_in(2))
        spec.request.messages[0].content.push_back({ContentPart::Kind::kText, "and", 0});
    }
    draw_sampling(spec.request.sampling);
    if (one_in(4)) {  // another worker began it
      const ExpectedAnswer whole = expected(spec, fake_.eos);
      const auto held = pick(0, static_cast<int>(whole.ids.size()) - 1);
      spec.committed.assign(whole.ids.begin(), whole.ids.begin() + held);
    }
    const Status added = fake_.engine->add(spec);
    if (!added) {  // grown beyond the context
      EXPECT_EQ(added.error().code, Code::kTooLarge) << added.error().message;
      return;
    }
    Asked& asked = asked_[spec.id.hex()];
    asked.spec = spec;
    asked.ids = spec.committed;
  }

  static std::size_t count_images(const GenerateRequest& request) {
    std::size_t count = 0;
    for (const ContentPart& part : request.messages[0].content)
      count += part.kind == ContentPart::Kind::kImage ? 1 : 0;
    return count;
  }

  void cancel_one(Totals& totals) {
    for (auto& [id, asked] : asked_) {
      if (asked.ended || asked.cancelled || !one_in(4)) continue;
      asked.cancelled = true;
      ++totals.cancelled;
      fake_.engine->cancel(asked.spec.id, asked.spec.attempt);
      return;
    }
  }

  void take(const SequenceUpdate& update, Totals& totals) {
    Asked& asked = asked_.at(update.id.hex());
    EXPECT_FALSE(asked.ended);
    EXPECT_EQ(update.attempt, asked.spec.attempt);
    EXPECT_EQ(update.index, asked.ids.size());
    asked.ids.insert(asked.ids.end(), update.token_ids.begin(), update.token_ids.end());
    for (const std::string& text : update.token_texts) asked.text += text;
    asked.logprobs.insert(asked.logprobs.end(), update.logprobs.begin(), update.logprobs.end());
    if (!update.ended) return;
    if (update.end.kind != Kind::kPreempted) {
      asked.text += update.end.text;
      asked.end = update.end;
      asked.ended = true;
      return;
    }
    ++totals.preempted;
    EXPECT_FALSE(asked.cancelled);
    ++asked.spec.attempt;
    asked.spec.committed = asked.ids;
    EXPECT_TRUE(fake_.engine->add(asked.spec));
  }

  void check(Asked& asked) {
    EXPECT_TRUE(asked.ended);
    SequenceSpec whole = asked.spec;
    const ExpectedAnswer answer = expected(whole, fake_.eos);
    if (asked.cancelled && asked.end.kind == Kind::kCancelled) {
      ASSERT_LE(asked.ids.size(), answer.ids.size());
      EXPECT_TRUE(std::equal(asked.ids.begin(), asked.ids.end(), answer.ids.begin()));
      return;
    }
    EXPECT_EQ(asked.ids, answer.ids);
    EXPECT_EQ(asked.end.kind, answer.end);
    // Of tokens that another worker chose the text and the logprobs are with that one's.
    EXPECT_TRUE(answer.text.ends_with(asked.text)) << answer.text << " / " << asked.text;
    ASSERT_LE(asked.logprobs.size(), answer.logprobs.size());
    EXPECT_TRUE(
        std::equal(asked.logprobs.rbegin(), asked.logprobs.rend(), answer.logprobs.rbegin()));
  }

  std::mt19937 random_;
  FakeOptions options_;
  FakeEngine fake_;
  std::vector<std::uint8_t> pixels_ = std::vector<std::uint8_t>(256);
  std::map<std::string, Asked> asked_;
};

TEST(EngineLoads, EveryAnswerIsThatOfAnUndisturbedModel) {
  Totals totals;
  for (std::uint32_t seed = 0; seed < 150; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Load(seed).run(totals);
    if (::testing::Test::HasFailure()) return;
  }
  EXPECT_GT(totals.preempted, 100);
  EXPECT_GT(totals.cancelled, 100);
  EXPECT_GT(totals.adopted_tokens, 1000);
  EXPECT_GT(totals.chosen_before, 1000);
}

}  // namespace
}  // namespace facet
