#include "broker/core/dispatch.h"

#include "tests/unit/core/core_fixture.h"

namespace facet {
namespace {

using Dispatching = CoreFixture;

TEST_F(Dispatching, SpreadsByLoadAndStopsAtTheCredits) {
  worker_up(0, 1, 2);
  worker_up(1, 2, 2);
  for (std::uint8_t i = 1; i <= 6; ++i) generate(request(i));
  ASSERT_EQ(dispatches.size(), 4u);
  EXPECT_EQ(dispatches[0].worker, 0u);
  EXPECT_EQ(dispatches[1].worker, 1u);
  EXPECT_EQ(dispatches[2].worker, 0u);
  EXPECT_EQ(core->status().queued_interactive, 2u);
  worker_says(1, 2, ending(2, 1, 0));
  ASSERT_EQ(dispatches.size(), 5u);
  EXPECT_EQ(dispatches[4].worker, 1u);
  EXPECT_EQ(dispatches[4].dispatch.id, id(5));
}

TEST_F(Dispatching, InteractiveComesBeforeBatch) {
  GenerateRequest batch = request(1);
  batch.priority = Priority::kBatch;
  generate(batch);
  generate(request(2));
  worker_up(0, 1, 1);
  ASSERT_EQ(dispatches.size(), 1u);
  EXPECT_EQ(dispatches[0].dispatch.id, id(2));
}

TEST_F(Dispatching, ALostWorkersRequestsComeBackInFrontWithTheirTokens) {
  worker_up(0, 1, 2);
  for (std::uint8_t i = 1; i <= 4; ++i) generate(request(i));
  worker_says(0, 1, update(2, 1, 0, {7, 8}));
  forget();
  step(WorkerDead{0, 1, false, -9});
  worker_up(1, 2, 2);
  ASSERT_EQ(dispatches.size(), 2u);
  EXPECT_EQ(dispatches[0].dispatch.id, id(1));
  EXPECT_EQ(dispatches[1].dispatch.id, id(2));
  EXPECT_EQ(dispatches[1].dispatch.attempt, 2u);
  EXPECT_EQ(dispatches[1].dispatch.committed, (std::vector<std::int32_t>{7, 8}));
}

TEST_F(Dispatching, APreemptedRequestWaitsAMomentThenGoesOn) {
  worker_up(0, 1);
  generate(request(1));
  worker_says(0, 1, ending(1, 1, 0, SequenceEnd::Kind::kPreempted));
  EXPECT_EQ(dispatches.size(), 1u);
  tick(limits.preempt_backoff);
  ASSERT_EQ(dispatches.size(), 2u);
  EXPECT_EQ(dispatches[1].dispatch.attempt, 2u);
  worker_says(0, 1, ending(1, 2, 0, SequenceEnd::Kind::kPreempted));
  tick(limits.preempt_backoff);
  EXPECT_EQ(dispatches.size(), 2u);  // the second wait is longer
  tick(limits.preempt_backoff);
  EXPECT_EQ(dispatches.size(), 3u);
}

TEST_F(Dispatching, CancelInEveryStateEndsOnceAndGivesAllBack) {
  limits.max_queued_requests = 10;
  start();
  step(DecoderUp{});
  // 0 waiting (no decoder slot yet), 1 decoding, 2 ready, 3 running, 4 in back-off, 5 finished.
  for (int state = 0; state <= 5; ++state) {
    forget();
    jobs.clear();
    const auto number = static_cast<std::uint8_t>(10 + state);
    const auto incarnation = static_cast<std::uint64_t>(10 + state);
    ask_with_images(number, 1);
    if (state >= 2) decode_all();
    if (state >= 3) worker_up(0, incarnation);
    if (state == 4) {
      worker_says(0, incarnation, ending(number, 1, 0, SequenceEnd::Kind::kPreempted));
    }
    if (state == 5) worker_says(0, incarnation, ending(number, 1, 0));
    step(ClientCancel{1, id(number)});
    ASSERT_EQ(told<Done>().size(), 1u) << state;
    EXPECT_EQ(told<Done>()[0].reason, state == 5 ? FinishReason::kStop : FinishReason::kCancelled);
    EXPECT_EQ(cancels.size(), state == 3 ? 1u : 0u);
    decode_all();
    if (state >= 3) {
      step(WorkerDead{0, incarnation, false, -9});
      step(WorkerReaped{0, incarnation});
    }
    EXPECT_TRUE(core->is_idle()) << state;
    EXPECT_EQ(ring->use(RingArena::kPixel).used, 0u) << state;
  }
  step(ClientCancel{1, id(200)});
  EXPECT_EQ(told<Refused>().at(0).code, Code::kNotFound);
}

TEST_F(Dispatching, ADeadlineAtTheWorkerCancelsIt) {
  worker_up(0, 1);
  GenerateRequest r = request(1);
  r.deadline_ms = 50;
  generate(r);
  tick(50 * kMillisecond);
  ASSERT_EQ(cancels.size(), 1u);
  EXPECT_EQ(cancels[0].cancel.attempt, 1u);
  EXPECT_EQ(told<Done>().at(0).code, Code::kTimeout);
  EXPECT_FALSE(core->is_idle());  // the worker may still run it
  worker_says(0, 1, ending(1, 1, 0, SequenceEnd::Kind::kCancelled));
  EXPECT_TRUE(core->is_idle());
}

}  // namespace
}  // namespace facet
