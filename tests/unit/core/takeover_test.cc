// Workers that outlive a broker, as its successor sees them.
#include "tests/unit/core/core_fixture.h"

namespace facet {
namespace {

class Takeovers : public CoreFixture {
 protected:
  // The next broker; `living` of worker 0 is its life, 0 for none.
  void replace_broker(std::vector<WorkerStarted> living, std::vector<WorkerDead> deaths = {}) {
    forget();
    jobs.clear();
    takeover = {std::move(living), std::move(deaths)};
    start();
  }
  void hello(std::uint32_t worker, std::uint64_t incarnation, std::vector<HeldSequence> held,
             std::uint32_t credits = 4) {
    Hello message;
    message.worker = worker;
    message.incarnation = incarnation;
    message.credits = credits;
    message.model.max_images = 8;
    message.held = std::move(held);
    step(WorkerHello{message, ledger->epoch()});
  }
  static HeldSequence held(std::uint8_t number, std::uint32_t attempt, std::uint32_t tokens) {
    return {id(number), attempt, tokens, false, false};
  }
  // Request `number` has its tokens from `first` on, 10 a second, two seconds long.
  void run_for_two_seconds(std::uint8_t number, std::uint32_t first) {
    for (std::uint32_t i = first; i < first + 20; ++i) {
      now += kSecond / 10;
      worker_says(0, 10, update(number, 1, i, {5}));
    }
  }
  // The estimate of the prompt counts with the first token that this broker sees.
  void expect_ten_a_second() {
    const CoreStatus status = core->status();
    EXPECT_GT(status.tokens_per_second, 9.0);
    EXPECT_LT(status.tokens_per_second, 20.0);
    EXPECT_GT(status.workers[0].sequence_tokens_per_second, 9.0);
    EXPECT_LT(status.workers[0].sequence_tokens_per_second, 20.0);
  }
  static GenerateRequest long_request(std::uint8_t number) {
    GenerateRequest r = request(number);
    r.sampling.max_tokens = 64;
    return r;
  }
  void run_with_images() {
    worker_up(0, 10);
    step(DecoderUp{});
    ask_with_images(1, 2);
    decode_all();
    worker_says(0, 10, update(1, 1, 0, {5, 6}));
  }
};

TEST_F(Takeovers, AHeldSequenceGoesOnAfterTheCommittedTokens) {
  worker_up(0, 10);
  generate(request(1));
  worker_says(0, 10, update(1, 1, 0, {5, 6}));
  replace_broker({{0, 10, 1, true}});
  EXPECT_EQ(core->status().running, 1u);
  EXPECT_EQ(core->status().workers[0].state, WorkerState::kStarting);
  hello(0, 10, {held(1, 1, 9)});
  ASSERT_EQ(resumes.size(), 1u);
  ASSERT_EQ(resumes[0].resume.sequences.size(), 1u);
  EXPECT_EQ(resumes[0].resume.sequences[0].from, 2u);
  EXPECT_TRUE(dispatches.empty());
  worker_says(0, 10, update(1, 1, 2, {7, 8}));
  worker_says(0, 10, ending(1, 1, 4));
  EXPECT_EQ(ledger->num_tokens(0), 4u);
  EXPECT_EQ(core->num_unfinished(), 0u);
  EXPECT_TRUE(core->is_idle());
  EXPECT_TRUE(kills.empty());
}

TEST_F(Takeovers, WhatTheWorkerLacksIsDispatchedAgain) {
  worker_up(0, 10);
  generate(request(1));
  generate(request(2));
  worker_says(0, 10, update(1, 1, 0, {5}));
  replace_broker({{0, 10, 1, true}});
  hello(0, 10, {held(2, 1, 0)});
  ASSERT_EQ(dispatches.size(), 1u);
  EXPECT_EQ(dispatches[0].dispatch.id, id(1));
  EXPECT_EQ(dispatches[0].dispatch.attempt, 2u);
  EXPECT_EQ(dispatches[0].dispatch.committed, (std::vector<std::int32_t>{5}));
  EXPECT_EQ(core->status().running, 2u);
}

TEST_F(Takeovers, NothingIsSentToAWorkerBeforeItsHello) {
  worker_up(0, 10);
  generate(request(1));
  replace_broker({{0, 10, 1, true}});
  generate(request(2));
  step(ClientCancel{1, id(1)});
  EXPECT_TRUE(dispatches.empty());
  EXPECT_TRUE(cancels.empty());
  hello(0, 10, {held(1, 1, 3)});
  EXPECT_TRUE(resumes.at(0).resume.sequences.empty());  // it drops what is cancelled
  EXPECT_EQ(dispatches.size(), 1u);
  EXPECT_FALSE(core->is_idle());
  worker_says(0, 10, ending(1, 1, 0, SequenceEnd::Kind::kCancelled));
  worker_says(0, 10, ending(2, 1, 0));
  EXPECT_TRUE(core->is_idle());
}

TEST_F(Takeovers, OfTwoAttemptsOnlyTheLastOneGoesOn) {
  worker_up(0, 10);
  generate(request(1));
  worker_says(0, 10, ending(1, 1, 0, SequenceEnd::Kind::kPreempted));
  tick(kSecond);
  ASSERT_EQ(dispatches.size(), 2u);
  replace_broker({{0, 10, 1, true}});
  HeldSequence former = held(1, 1, 0);
  former.ended = true;
  hello(0, 10, {former});
  EXPECT_TRUE(resumes.at(0).resume.sequences.empty());
  ASSERT_EQ(dispatches.size(), 1u);
  EXPECT_EQ(dispatches[0].dispatch.attempt, 3u);
}

TEST_F(Takeovers, PixelsStayUntilTheWorkerSaysOrIsReaped) {
  run_with_images();
  replace_broker({{0, 10, 1, true}});
  EXPECT_EQ(ring->use(RingArena::kPixel).slots, 2u);
  HeldSequence reads = held(1, 1, 4);
  reads.reads_images = true;
  hello(0, 10, {reads});
  EXPECT_EQ(ring->use(RingArena::kPixel).slots, 2u);
  const std::uint32_t slot = geometry.ingest_pages;
  EXPECT_EQ(ring->state(slot), SlotState::kReady);  // the reader checks it
  SequenceUpdate released = update(1, 1, 2, {7});
  released.images_released = true;
  worker_says(0, 10, released);
  EXPECT_EQ(ring->use(RingArena::kPixel).slots, 0u);
}

TEST_F(Takeovers, PixelsNobodyNamesAreFreeOnceAllHaveSpoken) {
  run_with_images();
  worker_up(1, 20);
  replace_broker({{0, 10, 1, true}, {1, 20, 1, true}});
  hello(0, 10, {held(1, 1, 4)});
  EXPECT_EQ(ring->use(RingArena::kPixel).slots, 2u);
  EXPECT_FALSE(core->is_idle());
  hello(1, 20, {});
  EXPECT_EQ(ring->use(RingArena::kPixel).slots, 0u);
}

TEST_F(Takeovers, ADeadWorkersPixelsWaitForItsReapingAcrossBrokers) {
  run_with_images();
  replace_broker({{0, 10, 1, true}}, {{0, 10, false, -9}});
  EXPECT_EQ(core->status().workers[0].state, WorkerState::kDead);
  EXPECT_EQ(ring->use(RingArena::kPixel).slots, 4u);  // its own and those for the next attempt
  step(WorkerReaped{0, 10});
  EXPECT_EQ(ring->use(RingArena::kPixel).slots, 2u);
  EXPECT_EQ(core->num_unfinished(), 1u);
}

TEST_F(Takeovers, PixelsNobodyLivesToReadAreFreeAtOnce) {
  run_with_images();
  replace_broker({});
  EXPECT_EQ(ring->use(RingArena::kPixel).slots, 2u);  // those for the next attempt
}

TEST_F(Takeovers, AWorkerThatWasLoadingHoldsNothing) {
  run_with_images();
  replace_broker({{1, 20, 1, false}});
  EXPECT_EQ(ring->use(RingArena::kPixel).slots, 2u);  // those for the next attempt
  hello(1, 20, {held(1, 1, 0)});                      // and may not say that it does
  EXPECT_EQ(kills.size(), 1u);
}

TEST_F(Takeovers, AnOwnFaultDeathThatNoBrokerHeardOfStrikesOnce) {
  worker_up(0, 10);
  generate(request(1));
  generate(request(2));
  replace_broker({}, {{0, 10, true, -11}});
  EXPECT_EQ(core->status().suspects, 2u);
  replace_broker({}, {{0, 10, true, -11}});
  EXPECT_EQ(core->status().suspects, 2u);
  EXPECT_EQ(core->num_unfinished(), 2u);
  worker_up(0, 11);
  EXPECT_EQ(dispatches.size(), 1u);  // alone
  replace_broker({}, {{0, 10, true, -11}, {0, 11, true, -11}});
  EXPECT_EQ(core->num_unfinished(), 1u);  // convicted
  EXPECT_EQ(core->status().counters.quarantined, 1u);
}

TEST_F(Takeovers, ASuspectThatRunsAloneStaysAlone) {
  worker_up(0, 10);
  generate(request(1));
  generate(request(2));
  step(WorkerDead{0, 10, true, -11});
  step(WorkerReaped{0, 10});
  worker_up(0, 11);
  ASSERT_EQ(core->status().running, 1u);
  worker_up(1, 20);
  replace_broker({{0, 11, 1, true}, {1, 20, 1, true}});
  hello(1, 20, {});
  EXPECT_TRUE(dispatches.empty());  // one suspect at a time
  generate(request(3));
  EXPECT_EQ(dispatches.at(0).worker, 1u);
  hello(0, 11, {held(1, 2, 0)});
  EXPECT_TRUE(core->status().workers[0].held_for_suspect);
  EXPECT_EQ(dispatches.size(), 1u);
  step(WorkerDead{0, 11, true, -11});
  EXPECT_EQ(core->status().counters.quarantined, 1u);
}

TEST_F(Takeovers, SilenceEndsAWorkerAndItsRequestsGoOnElsewhere) {
  worker_up(0, 10);
  generate(request(1));
  replace_broker({{0, 10, 1, true}});
  worker_up(1, 20);
  EXPECT_EQ(core->next_deadline().value_or(0) <= now + limits.hello_timeout, true);
  tick(limits.hello_timeout);
  ASSERT_EQ(kills.size(), 1u);
  EXPECT_EQ(kills[0].worker, 0u);
  ASSERT_EQ(dispatches.size(), 1u);
  EXPECT_EQ(dispatches[0].worker, 1u);
  hello(0, 10, {held(1, 1, 3)});
  EXPECT_TRUE(resumes.empty() || resumes.back().worker != 0u);
}

TEST_F(Takeovers, WordsForAFormerBrokerAreDropped) {
  worker_up(0, 10);
  generate(request(1));
  replace_broker({{0, 10, 1, true}});
  Step old;
  old.incarnation = 10;
  old.updates.push_back(update(1, 1, 0, {5}));
  step(WorkerStep{0, old, ledger->epoch() - 1});
  hello(0, 10, {held(1, 1, 1)});
  step(WorkerStep{0, old, ledger->epoch() - 1});
  EXPECT_EQ(ledger->num_tokens(0), 0u);
  step(WorkerStep{0, old, ledger->epoch()});
  EXPECT_EQ(ledger->num_tokens(0), 1u);
}

TEST_F(Takeovers, StepsAreAcknowledgedWithEachEndAndNowAndThen) {
  limits.steps_per_ack = 32;
  start();
  worker_up(0, 10);
  generate(request(1));
  for (std::uint32_t i = 0; i < limits.steps_per_ack - 1; ++i) {
    Step message;
    message.incarnation = 10;
    message.step = i + 1;
    step(WorkerStep{0, message, ledger->epoch()});
  }
  EXPECT_TRUE(acks.empty());
  Step message;
  message.incarnation = 10;
  message.step = 32;
  step(WorkerStep{0, message, ledger->epoch()});
  ASSERT_EQ(acks.size(), 1u);
  EXPECT_EQ(acks[0].ack.step, 32u);
  worker_says(0, 10, ending(1, 1, 0));
  EXPECT_EQ(acks.size(), 2u);
}

TEST_F(Takeovers, SpeedAndWaitAreMeasuredFromTheTakeoverOn) {
  tick(3600 * kSecond);
  worker_up(0, 10, 1);
  generate(long_request(1));
  worker_says(0, 10, update(1, 1, 0, {5}));
  replace_broker({{0, 10, 1, true}});
  hello(0, 10, {held(1, 1, 1)}, 1);
  run_for_two_seconds(1, 1);
  expect_ten_a_second();
  generate(long_request(2));
  const std::optional<std::uint32_t> eta = told<Accepted>().back().eta_ms;
  ASSERT_TRUE(eta.has_value());
  EXPECT_GT(*eta, 1000u);
  EXPECT_LT(*eta, 10000u) << "some 60 tokens";
}

TEST_F(Takeovers, ASequenceThatNobodyWantsDoesNotSpoilTheSpeed) {
  tick(3600 * kSecond);
  worker_up(0, 10, 1);
  generate(request(1));
  step(ClientCancel{1, id(1)});
  replace_broker({{0, 10, 1, true}});
  hello(0, 10, {held(1, 1, 1)}, 1);
  now += kSecond / 10;
  worker_says(0, 10, ending(1, 1, 1, SequenceEnd::Kind::kCancelled));
  generate(long_request(2));
  run_for_two_seconds(2, 0);
  expect_ten_a_second();
}

TEST_F(Takeovers, ABrokerKilledFromOutsideBlamesNoRecord) {
  generate(request(1));
  for (int i = 0; i < 3; ++i) {
    ledger->set_handling(0);
    replace_broker({});
  }
  EXPECT_EQ(core->num_unfinished(), 1u);
}

}  // namespace
}  // namespace facet
