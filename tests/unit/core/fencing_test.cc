#include "tests/unit/core/core_fixture.h"

namespace facet {
namespace {

class Fencing : public CoreFixture {
 protected:
  Fencing() {
    worker_up(0, 10);
    generate(request(1));
  }
  std::uint32_t committed() { return ledger->num_tokens(0); }
};

TEST_F(Fencing, TokensAreCommittedAndSentOn) {
  worker_says(0, 10, update(1, 1, 0, {5, 6}));
  EXPECT_EQ(committed(), 2u);
  ASSERT_EQ(told<Tokens>().size(), 1u);
  EXPECT_EQ(told<Tokens>()[0].text, "t5 t6 ");
}

TEST_F(Fencing, OlderIncarnationsAndAttemptsAreDropped) {
  worker_says(0, 9, update(1, 1, 0, {5}));
  worker_says(0, 11, update(1, 1, 0, {5}));
  worker_says(0, 10, update(1, 2, 0, {5}));
  worker_says(1, 10, update(1, 1, 0, {5}));
  worker_says(7, 10, update(1, 1, 0, {5}));
  EXPECT_EQ(committed(), 0u);
  EXPECT_GE(core->status().counters.stale_dropped, 4u);
  EXPECT_TRUE(kills.empty());
}

TEST_F(Fencing, AnEqualRepetitionIsDroppedAnOverlapContinues) {
  worker_says(0, 10, update(1, 1, 0, {5, 6}));
  worker_says(0, 10, update(1, 1, 0, {5, 6}));
  worker_says(0, 10, update(1, 1, 1, {6, 7}));
  EXPECT_EQ(committed(), 3u);
  EXPECT_EQ(core->status().counters.duplicate_tokens, 3u);
  EXPECT_TRUE(kills.empty());
}

TEST_F(Fencing, AContradictionOrAGapEndsTheWorkerAndTheRequestGoesOn) {
  worker_says(0, 10, update(1, 1, 0, {5, 6}));
  worker_up(1, 20);
  forget();
  worker_says(0, 10, update(1, 1, 1, {9}));
  ASSERT_EQ(kills.size(), 1u);
  EXPECT_EQ(kills[0].incarnation, 10u);
  ASSERT_EQ(dispatches.size(), 1u);
  EXPECT_EQ(dispatches[0].worker, 1u);
  worker_says(0, 10, update(1, 1, 2, {7}));  // nothing it says counts any more
  EXPECT_EQ(committed(), 2u);
  worker_says(1, 20, update(1, 2, 3, {7}));  // a gap
  EXPECT_EQ(kills.size(), 2u);
  EXPECT_EQ(committed(), 2u);
}

TEST_F(Fencing, ADeadWorkersWordsAreDroppedBeforeAndAfterItsReaping) {
  step(WorkerDead{0, 10, false, -9});
  worker_says(0, 10, update(1, 1, 0, {5}));
  step(WorkerReaped{0, 10});
  worker_says(0, 10, ending(1, 1, 0));
  EXPECT_EQ(committed(), 0u);
  EXPECT_EQ(core->num_unfinished(), 1u);
}

TEST_F(Fencing, TheTextsOverflowEndsTheRequestWithTheNumbers) {
  SequenceUpdate big = update(1, 1, 0, {5});
  big.token_texts[0] = std::string(100'000, 'x');
  worker_says(0, 10, big);
  ASSERT_EQ(told<Done>().size(), 1u);
  EXPECT_EQ(told<Done>()[0].code, Code::kTooLarge);
  EXPECT_NE(told<Done>()[0].error.find("100000"), std::string::npos);
  EXPECT_EQ(cancels.size(), 1u);
}

TEST_F(Fencing, MalformedUpdatesAndASecondHelloEndTheWorker) {
  SequenceUpdate odd = update(1, 1, 0, {5});
  odd.token_texts.clear();
  worker_says(0, 10, odd);
  EXPECT_EQ(kills.size(), 1u);
  worker_up(1, 20);
  Hello again;
  again.worker = 1;
  again.incarnation = 20;
  step(WorkerHello{again, ledger->epoch()});
  EXPECT_EQ(kills.size(), 2u);
  Hello nobody;
  nobody.worker = 99;
  step(WorkerHello{nobody, ledger->epoch()});
  EXPECT_EQ(kills.size(), 2u);
}

TEST_F(Fencing, LogprobsComeWithTheTokensThatAskForThem) {
  const std::vector<TokenLogprob> told_so{{5, -1}, {3, -0.5F}, {6, -2}, {6, -2}};
  GenerateRequest asks = request(2);
  asks.sampling.logprobs = 1;
  generate(asks, 2);
  SequenceUpdate both = update(2, 1, 0, {5, 6});
  both.logprobs = told_so;
  worker_says(0, 10, both);
  ASSERT_EQ(told<Tokens>(2).size(), 1u);
  EXPECT_EQ(told<Tokens>(2)[0].logprobs, told_so);
  SequenceUpdate again = update(2, 1, 1, {6, 7});  // a repetition and a new one
  again.logprobs = {{6, -2}, {6, -2}, {7, -4}, {7, -4}};
  worker_says(0, 10, again);
  EXPECT_EQ(told<Tokens>(2).back().logprobs, std::vector<TokenLogprob>(2, {7, -4}));
  asks.next_index = 1;  // from any index, what was told before
  generate(asks, 3);
  EXPECT_EQ(told<Tokens>(3).at(0).logprobs,
            (std::vector<TokenLogprob>{{6, -2}, {6, -2}, {7, -4}, {7, -4}}));
  EXPECT_TRUE(kills.empty());
  worker_says(0, 10, update(2, 1, 3, {8}));  // without
  EXPECT_EQ(kills.size(), 1u);
}

TEST_F(Fencing, LogprobsThatNobodyAskedForEndTheWorker) {
  SequenceUpdate odd = update(1, 1, 0, {5});
  odd.logprobs = {{5, -1}};
  worker_says(0, 10, odd);
  EXPECT_EQ(kills.size(), 1u);
}

TEST_F(Fencing, AHelloBeforeTheSupervisorsWordWaitsForIt) {
  Hello early;
  early.worker = 1;
  early.incarnation = 30;
  early.credits = 1;
  step(WorkerHello{early, ledger->epoch()});
  EXPECT_EQ(core->status().workers[1].state, WorkerState::kAbsent);
  step(WorkerStarted{1, 30, 1});
  EXPECT_EQ(core->status().workers[1].state, WorkerState::kReady);
}

TEST_F(Fencing, AWorkerThatCannotBeReachedIsEnded) {
  step(WorkerUnreachable{0, 9});
  EXPECT_TRUE(kills.empty());
  step(WorkerUnreachable{0, 10});
  EXPECT_EQ(kills.size(), 1u);
  EXPECT_EQ(core->status().queued_interactive, 1u);
}

class SlotReuse : public CoreFixture {};

TEST_F(SlotReuse, SlotsOfADeclaredDeadWorkerWaitForItsReaping) {
  worker_up(0, 10);
  step(DecoderUp{});
  ask_with_images(1, 1);
  decode_all();
  worker_up(1, 20);
  step(WorkerDead{0, 10, false, -9});
  ASSERT_EQ(dispatches.size(), 2u);  // the same slot, elsewhere
  EXPECT_EQ(dispatches[0].dispatch.images[0].generation,
            dispatches[1].dispatch.images[0].generation);
  worker_says(1, 20, ending(1, 2, 0));
  EXPECT_EQ(told<Done>().size(), 1u);
  EXPECT_EQ(ring->use(RingArena::kPixel).slots, 1u);  // the dead one may still read
  EXPECT_FALSE(core->is_idle());
  step(WorkerReaped{0, 10});
  EXPECT_EQ(ring->use(RingArena::kPixel).slots, 0u);
  EXPECT_TRUE(core->is_idle());
}

}  // namespace
}  // namespace facet
