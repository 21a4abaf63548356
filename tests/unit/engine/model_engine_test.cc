#include "worker/engine/model_engine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "tests/unit/engine/fake_model.h"

namespace facet {
namespace {

using Kind = SequenceEnd::Kind;

struct Outcome {
  std::vector<std::int32_t> ids;
  std::string text;
  SequenceEnd end;
  bool ended = false;
  bool images_released = false;
  int preemptions = 0;
};
using Outcomes = std::map<std::string, Outcome>;  // by request id

void collect(const std::vector<SequenceUpdate>& updates, Outcomes& outcomes) {
  for (const SequenceUpdate& update : updates) {
    Outcome& outcome = outcomes[update.id.hex()];
    EXPECT_FALSE(outcome.ended);
    EXPECT_EQ(update.index, outcome.ids.size());
    EXPECT_EQ(update.token_ids.size(), update.token_texts.size());
    outcome.ids.insert(outcome.ids.end(), update.token_ids.begin(), update.token_ids.end());
    for (const std::string& text : update.token_texts) outcome.text += text;
    outcome.images_released |= update.images_released;
    outcome.end = update.end;
    outcome.ended = update.ended;
    outcome.text += update.end.text;
  }
}

void step(FakeEngine& fake, Outcomes& outcomes) {
  auto updates = fake.engine->step();
  ASSERT_TRUE(updates) << updates.error().message;
  collect(*updates, outcomes);
  const Status conserved = fake.engine->check_conservation();
  ASSERT_TRUE(conserved) << conserved.error().message;
}

Outcomes run(FakeEngine& fake) {
  Outcomes outcomes;
  for (int i = 0; fake.engine->has_work(); ++i) {
    EXPECT_LT(i, 100'000);
    step(fake, outcomes);
    if (::testing::Test::HasFatalFailure()) break;
  }
  EXPECT_EQ(fake.engine->kv_blocks_free(), fake.engine->kv_blocks_total());
  return outcomes;
}

// With one step in flight and with two: no test may see a difference in the answers.
class ModelEngineTest : public ::testing::TestWithParam<int> {
 protected:
  static FakeEngine make(FakeOptions options) {
    options.max_in_flight = GetParam();
    return make_fake_engine(options);
  }
};
INSTANTIATE_TEST_SUITE_P(InFlight, ModelEngineTest, ::testing::Values(1, 2));

TEST_P(ModelEngineTest, AnswersOneRequest) {
  FakeEngine fake = make({});
  SequenceSpec spec = text_spec("hello", 30);
  ASSERT_TRUE(fake.engine->add(spec));
  const Outcome outcome = run(fake)[spec.id.hex()];
  EXPECT_EQ(outcome.ids, expected_answer(spec, fake.eos));
  EXPECT_EQ(outcome.end.prompt_tokens, 5u);
}

TEST_P(ModelEngineTest, RefusesWhatCanNeverFitWithTheNumbers) {
  FakeEngine fake = make({.blocks = 10, .block_tokens = 4, .max_model_len = 1000});
  const Status pool = fake.engine->add(text_spec(std::string(20, 'x'), 21));
  ASSERT_FALSE(pool);
  EXPECT_EQ(pool.error().code, Code::kTooLarge);
  EXPECT_NE(pool.error().message.find("needs 41"), std::string::npos) << pool.error().message;
  EXPECT_NE(pool.error().message.find("has 40"), std::string::npos);
  EXPECT_TRUE(fake.engine->add(text_spec(std::string(20, 'x'), 20)));
  FakeEngine shorter = make({.max_model_len = 30});
  EXPECT_FALSE(shorter.engine->add(text_spec(std::string(20, 'x'), 11)));
  EXPECT_TRUE(shorter.engine->add(text_spec(std::string(20, 'x'), 10)));
}

TEST_P(ModelEngineTest, RefusesBadParametersByName) {
  FakeEngine fake = make({});
  const auto refused = [&](auto change, const std::string& name) {
    SequenceSpec spec = text_spec("x", 5);
    change(spec.request.sampling);
    const Status added = fake.engine->add(spec);
    ASSERT_FALSE(added) << name;
    EXPECT_EQ(added.error().code, Code::kInvalidArgument);
    EXPECT_NE(added.error().message.find(name), std::string::npos) << added.error().message;
  };
  refused([](SamplingParams& p) { p.temperature = -1; }, "temperature");
  refused([](SamplingParams& p) { p.temperature = std::nan(""); }, "temperature");
  refused([](SamplingParams& p) { p.top_p = 0; }, "top_p");
  refused([](SamplingParams& p) { p.min_p = 2; }, "min_p");
  refused([](SamplingParams& p) { p.repetition_penalty = -2; }, "repetition_penalty");
  refused([](SamplingParams& p) { p.min_tokens = 6; }, "min_tokens");
  refused([](SamplingParams& p) { p.max_tokens = 0; }, "max_tokens");
  refused([](SamplingParams& p) { p.temperature = 1e300; }, "temperature");
  refused([](SamplingParams& p) { p.top_p = 1.5; }, "top_p");
  refused([](SamplingParams& p) { p.presence_penalty = 1e9; }, "presence_penalty");
  refused([](SamplingParams& p) { p.frequency_penalty = -1e9; }, "frequency_penalty");
  refused([](SamplingParams& p) { p.logprobs = 21; }, "logprobs");
  EXPECT_FALSE(fake.engine->has_work());
}

TEST_P(ModelEngineTest, CancelEndsAtAnyStage) {
  for (int steps = 0; steps < 6; ++steps) {
    FakeEngine fake = make({.step_tokens = 8, .lanes = 1});
    SequenceSpec first = text_spec(std::string(20, 'x'), 50);
    SequenceSpec second = text_spec("waiting", 3);
    ASSERT_TRUE(fake.engine->add(first));
    ASSERT_TRUE(fake.engine->add(second));
    Outcomes outcomes;
    for (int i = 0; i < steps; ++i) step(fake, outcomes);
    fake.engine->cancel(first.id, 7);  // another attempt: nothing happens
    fake.engine->cancel(first.id, 0);
    while (fake.engine->has_work()) step(fake, outcomes);
    EXPECT_EQ(outcomes[first.id.hex()].end.kind, Kind::kCancelled);
    EXPECT_EQ(outcomes[second.id.hex()].ids, expected_answer(second, fake.eos));
    EXPECT_EQ(fake.engine->kv_blocks_free(), fake.engine->kv_blocks_total());
  }
}

TEST_P(ModelEngineTest, AnImageOfAnotherRequestEndsTheSequenceAlone) {
  FakeEngine fake = make({});
  const std::uint8_t pixel = 3;
  SequenceSpec bad = text_spec("bad", 10);
  add_image(bad, &pixel, 5);
  bad.images[0].is_current = [] { return false; };
  SequenceSpec good = text_spec("good", 10);
  add_image(good, &pixel, 5);
  ASSERT_TRUE(fake.engine->add(bad));
  ASSERT_TRUE(fake.engine->add(good));
  Outcomes outcomes = run(fake);
  EXPECT_EQ(outcomes[bad.id.hex()].end.kind, Kind::kError);
  EXPECT_EQ(outcomes[bad.id.hex()].end.code, Code::kCorrupt);
  EXPECT_TRUE(outcomes[bad.id.hex()].ids.empty());
  EXPECT_EQ(outcomes[good.id.hex()].ids, expected_answer(good, fake.eos));
}

// As after an illegal access: every call fails. No request is told that it was at fault; the worker
// ends, and what it held goes on elsewhere.
TEST_P(ModelEngineTest, ABrokenDeviceFailsTheEngineAsAWhole) {
  for (const bool when_collected : {false, true}) {
    FakeEngine fake = make({});
    fake.runner->fail_after_steps = 5;
    fake.runner->fails_when_collected = when_collected;
    ASSERT_TRUE(fake.engine->add(text_spec("one", 100)));
    ASSERT_TRUE(fake.engine->add(text_spec("another", 100)));
    std::string failure;
    for (int steps = 0; steps < 20 && failure.empty(); ++steps) {
      const auto updates = fake.engine->step();
      if (!updates) {
        failure = updates.error().message;
        continue;
      }
      for (const SequenceUpdate& update : *updates) EXPECT_FALSE(update.ended);
    }
    EXPECT_EQ(failure, "the device is broken") << when_collected;
    EXPECT_FALSE(fake.engine->step());
  }
}

TEST_P(ModelEngineTest, FailingEncoderAndNanEndOneSequence) {
  FakeEngine fake = make({});
  fake.runner->fail_encode = true;
  const std::uint8_t pixel = 3;
  SequenceSpec image = text_spec("image", 10);
  add_image(image, &pixel, 5);
  SequenceSpec text = text_spec("text", 10);
  ASSERT_TRUE(fake.engine->add(image));
  ASSERT_TRUE(fake.engine->add(text));
  Outcomes outcomes = run(fake);
  EXPECT_EQ(outcomes[image.id.hex()].end.kind, Kind::kError);
  EXPECT_EQ(outcomes[text.id.hex()].ids, expected_answer(text, fake.eos));

  fake.runner->nan_for_chunks_of = 9;
  SequenceSpec nan = text_spec("nine byte", 10);
  ASSERT_TRUE(fake.engine->add(nan));
  text.id = RequestId::random();
  ASSERT_TRUE(fake.engine->add(text));
  outcomes = run(fake);
  EXPECT_EQ(outcomes[nan.id.hex()].end.kind, Kind::kError);
  EXPECT_EQ(outcomes[nan.id.hex()].end.message,
            "the model computed a logit that is not a finite number, said the fake");
  EXPECT_EQ(outcomes[text.id.hex()].ids, expected_answer(text, fake.eos));
}

TEST_P(ModelEngineTest, CommittedTokensThatEndTheAnswerNeedNoStep) {
  FakeEngine fake = make({});
  SequenceSpec spec = text_spec("x", 3);
  spec.committed = {'a', 'b', 'c'};
  ASSERT_TRUE(fake.engine->add(spec));
  auto updates = fake.engine->step();
  ASSERT_EQ(updates->size(), 1u);
  EXPECT_EQ(updates->at(0).index, 3u);
  EXPECT_EQ(updates->at(0).end.kind, Kind::kLength);
  EXPECT_EQ(fake.runner->num_steps, 0);
  spec.committed = {'a', fake.eos};
  ASSERT_TRUE(fake.engine->add(spec));
  updates = fake.engine->step();
  ASSERT_EQ(updates->size(), 1u);
  EXPECT_EQ(updates->at(0).end.kind, Kind::kStop);
  spec.committed = {'a', 'b', 'c', 'd'};
  EXPECT_FALSE(fake.engine->add(spec));
  spec.committed = {kFakeVocab};
  EXPECT_FALSE(fake.engine->add(spec));
}

TEST_P(ModelEngineTest, StopStringsCutTheTextWhereverTheTokensAre) {
  FakeEngine fake = make({});
  SequenceSpec spec = text_spec("stop here", 40);
  std::string all;
  for (const std::int32_t id : expected_answer(spec, fake.eos)) all += static_cast<char>(id);
  ASSERT_GT(all.size(), 6u);
  spec.request.sampling.stop = {all.substr(3, 2)};
  const auto at = all.find(all.substr(3, 2));
  // Every attempt sees the committed tokens of the ones before; the texts of all make one.
  std::vector<std::string> sent;  // by the first attempt, token by token
  for (std::uint32_t attempt = 0; attempt < at + 2; ++attempt) {
    spec.attempt = attempt;
    spec.committed.assign(all.begin(), all.begin() + attempt);
    ASSERT_TRUE(fake.engine->add(spec));
    std::string text;
    for (std::uint32_t i = 0; i < attempt; ++i) text += sent[i];
    SequenceEnd end;
    while (fake.engine->has_work()) {
      const auto updates = fake.engine->step();
      ASSERT_TRUE(updates);
      for (const SequenceUpdate& update : *updates) {
        for (const std::string& part : update.token_texts) {
          text += part;
          if (attempt == 0) sent.push_back(part);
        }
        if (update.ended) end = update.end;
      }
    }
    EXPECT_EQ(end.kind, Kind::kStop);
    EXPECT_EQ(end.text, "");
    EXPECT_EQ(text, all.substr(0, at));
  }
}

// A step in flight never costs a joining sequence a step, nor a slot that is known to become free.
TEST_P(ModelEngineTest, EndsByLengthAreNotOverrunAndGiveWayAtOnce) {
  FakeEngine fake = make({.step_tokens = 32, .lanes = 2});
  SequenceSpec first = text_spec("first", 4);
  SequenceSpec second = text_spec("second", 4);
  SequenceSpec third = text_spec("third", 4);
  for (SequenceSpec* spec : {&first, &second, &third}) {
    spec->request.sampling.ignore_eos = true;
    ASSERT_TRUE(fake.engine->add(*spec));
  }
  const Outcomes outcomes = run(fake);
  for (const auto& [id, outcome] : outcomes) EXPECT_EQ(outcome.ids.size(), 4u);
  EXPECT_EQ(fake.runner->num_steps, 8);  // two lanes, four tokens each, one after the other
  EXPECT_EQ(fake.runner->most_in_flight, GetParam());
  EXPECT_EQ(fake.runner->num_chosen_before > 0, GetParam() == 2);
}

// The end token is seen when the next step is under way: its token is dropped, and the sequence
// that gets the lane and the blocks is not disturbed.
TEST_P(ModelEngineTest, AnEndFoundLateLeavesNoTrace) {
  FakeEngine fake = make({.blocks = 14, .step_tokens = 16, .lanes = 2});
  std::map<std::string, SequenceSpec> specs;
  int stopped = 0;
  for (int i = 0; i < 60; ++i) {
    SequenceSpec spec = text_spec("late " + std::to_string(i), 20);
    stopped += expected_answer(spec, fake.eos).size() < 20 ? 1 : 0;
    ASSERT_TRUE(fake.engine->add(spec));
    specs.emplace(spec.id.hex(), spec);
  }
  ASSERT_GT(stopped, 10);
  for (const auto& [id, outcome] : run(fake))
    EXPECT_EQ(outcome.ids, expected_answer(specs.at(id), fake.eos));
}

TEST_P(ModelEngineTest, ASequenceThatJoinsIsInTheVeryNextStep) {
  FakeEngine fake = make({});
  SequenceSpec first = text_spec("runs along", 30);
  first.request.sampling.ignore_eos = true;
  ASSERT_TRUE(fake.engine->add(first));
  Outcomes outcomes;
  for (int i = 0; i < 5; ++i) step(fake, outcomes);
  const int before = fake.runner->num_steps;
  ASSERT_TRUE(fake.engine->add(text_spec("joins", 1)));
  while (outcomes.size() < 2) step(fake, outcomes);
  EXPECT_LE(fake.runner->num_steps, before + GetParam());
  while (fake.engine->has_work()) step(fake, outcomes);
}

// One answer after the other: what is left of the first serves the second.
TEST_P(ModelEngineTest, ARepeatedPromptIsComputedFromItsLastToken) {
  FakeEngine fake = make({.block_tokens = 4});
  const std::uint8_t pixel = 7;
  SequenceSpec spec = text_spec("a common prefix ", 6);
  add_image(spec, &pixel, 9);
  const auto expected = expected_answer(spec, fake.eos);
  for (const int adopted : {0, 24}) {  // of 16 + 9 + 1 tokens: full blocks short of the last token
    spec.id = RequestId::random();
    const int before = fake.runner->num_adopted;
    ASSERT_TRUE(fake.engine->add(spec));
    const Outcome outcome = run(fake)[spec.id.hex()];
    EXPECT_EQ(outcome.ids, expected);
    EXPECT_TRUE(outcome.images_released);
    EXPECT_EQ(fake.runner->num_adopted - before, adopted);
    EXPECT_EQ(outcome.end.cached_tokens, static_cast<std::uint32_t>(adopted));
  }
  EXPECT_EQ(fake.runner->num_encoded, 1);  // the image's last token lies in a block of its own
}

TEST_P(ModelEngineTest, AnImageOfAnotherContentIsNoHit) {
  FakeEngine fake = make({.block_tokens = 4});
  const std::uint8_t pixels[] = {7, 8, 7};
  std::vector<int> adopted, encoded;
  for (const std::uint8_t& pixel : pixels) {
    SequenceSpec spec = text_spec("look: ", 6);
    add_image(spec, &pixel, 10);
    ASSERT_TRUE(fake.engine->add(spec));
    EXPECT_EQ(run(fake)[spec.id.hex()].ids, expected_answer(spec, fake.eos));
    adopted.push_back(fake.runner->num_adopted);
    encoded.push_back(fake.runner->num_encoded);
  }
  EXPECT_EQ(adopted, (std::vector<int>{0, 4, 20}));  // only the text before; then all of it
  EXPECT_EQ(encoded, (std::vector<int>{1, 2, 2}));
  SequenceSpec unknown = text_spec("look: ", 6);
  add_image(unknown, pixels, 10);
  unknown.images[0].content_hash_high = unknown.images[0].content_hash_low = 0;
  for (int i = 0; i < 2; ++i) {  // content that cannot be told from other content is not kept
    unknown.id = RequestId::random();
    ASSERT_TRUE(fake.engine->add(unknown));
    EXPECT_EQ(run(fake)[unknown.id.hex()].ids, expected_answer(unknown, fake.eos));
  }
  EXPECT_EQ(fake.runner->num_encoded, 4);
  EXPECT_EQ(fake.runner->num_adopted, 28);
}

TEST_P(ModelEngineTest, OneImageOfManyRequestsIsEncodedOnce) {
  FakeEngine fake = make({.blocks = 100, .encoder_rows = 32, .step_tokens = 200, .lanes = 8});
  const std::uint8_t pixel = 9;
  std::vector<SequenceSpec> specs;
  for (int i = 0; i < 8; ++i) {
    specs.push_back(text_spec("question " + std::to_string(i), 4));
    add_image(specs.back(), &pixel, 10);
    ASSERT_TRUE(fake.engine->add(specs.back()));
  }
  Outcomes outcomes = run(fake);
  for (const SequenceSpec& spec : specs)
    EXPECT_EQ(outcomes[spec.id.hex()].ids, expected_answer(spec, fake.eos));
  EXPECT_EQ(fake.runner->num_encoded, 1);
}

TEST_P(ModelEngineTest, AStaleImageDoesNotSpoilItsTwin) {
  FakeEngine fake = make({.step_tokens = 64});
  const std::uint8_t pixel = 9;
  SequenceSpec stale = text_spec("first", 4);
  add_image(stale, &pixel, 10);
  SequenceSpec sound = stale;
  sound.id = RequestId::random();
  stale.images[0].is_current = [] { return false; };
  ASSERT_TRUE(fake.engine->add(stale));
  ASSERT_TRUE(fake.engine->add(sound));
  Outcomes outcomes = run(fake);
  EXPECT_EQ(outcomes[stale.id.hex()].end.code, Code::kCorrupt);
  EXPECT_TRUE(outcomes[stale.id.hex()].ids.empty());
  EXPECT_EQ(outcomes[sound.id.hex()].ids, expected_answer(sound, fake.eos));
  EXPECT_EQ(fake.runner->num_encoded, 2);
}

TEST_P(ModelEngineTest, WhatEndedInANanIsNotUsedAgain) {
  FakeEngine fake = make({.block_tokens = 2});
  SequenceSpec spec = text_spec("nine byte", 10);
  fake.runner->nan_for_chunks_of = 9;
  ASSERT_TRUE(fake.engine->add(spec));
  EXPECT_EQ(run(fake)[spec.id.hex()].end.code, Code::kInternal);
  fake.runner->nan_for_chunks_of = 0;
  spec.id = RequestId::random();
  ASSERT_TRUE(fake.engine->add(spec));
  EXPECT_EQ(run(fake)[spec.id.hex()].ids, expected_answer(spec, fake.eos));
  EXPECT_EQ(fake.runner->num_adopted, 0);
}

TEST_P(ModelEngineTest, WithoutTheCacheNothingIsKept) {
  FakeEngine fake = make({.prefix_cache = false});
  const std::uint8_t pixel = 7;
  SequenceSpec spec = text_spec("a common prefix ", 6);
  add_image(spec, &pixel, 9);
  for (int i = 0; i < 2; ++i) {
    spec.id = RequestId::random();
    ASSERT_TRUE(fake.engine->add(spec));
    EXPECT_EQ(run(fake)[spec.id.hex()].ids, expected_answer(spec, fake.eos));
  }
  EXPECT_EQ(fake.runner->num_adopted, 0);
  EXPECT_EQ(fake.runner->num_encoded, 2);
}

TEST_P(ModelEngineTest, OverdueSequencesEndAtAnyStageAndTheirRoomIsFree) {
  for (int steps = 0; steps < 6; ++steps) {
    FakeEngine fake = make({.step_tokens = 8, .lanes = 1});
    SequenceSpec late = text_spec(std::string(20, 'x'), 50);
    late.request.sampling.ignore_eos = true;
    late.deadline = 100;
    SequenceSpec waits = text_spec("waits in vain", 5);
    waits.deadline = 100;
    SequenceSpec other = text_spec("other", 5);
    other.deadline = 101;
    for (SequenceSpec* spec : {&late, &waits, &other}) ASSERT_TRUE(fake.engine->add(*spec));
    Outcomes outcomes;
    *fake.now = 99;
    for (int i = 0; i < steps; ++i) step(fake, outcomes);
    *fake.now = 100;
    while (fake.engine->has_work()) step(fake, outcomes);
    for (const SequenceSpec* spec : {&late, &waits}) {
      EXPECT_EQ(outcomes[spec->id.hex()].end.kind, Kind::kError);
      EXPECT_EQ(outcomes[spec->id.hex()].end.code, Code::kTimeout);
    }
    EXPECT_EQ(outcomes[other.id.hex()].ids, expected_answer(other, fake.eos));
    EXPECT_EQ(fake.engine->kv_blocks_free(), fake.engine->kv_blocks_total());
  }
}

}  // namespace
}  // namespace facet
