#include "tests/unit/core/core_fixture.h"

namespace facet {
namespace {

class Recovery : public CoreFixture {
 protected:
  // The broker ends by a fault of its own in the midst of this record.
  void die_with_record(std::uint32_t index) {
    ledger->set_handling(index);
    ledger->handling_word() |= LedgerWriter::kHandlingFault;
  }
};

TEST_F(Recovery, UnfinishedRequestsGoOnWithTheirTokensAndImages) {
  worker_up(0, 10);
  step(DecoderUp{});
  ask_with_images(1, 2);
  generate(request(2));
  decode_all();
  worker_says(0, 10, update(1, 1, 0, {5, 6}));
  forget();
  jobs.clear();
  start();
  EXPECT_EQ(core->num_unfinished(), 2u);
  EXPECT_EQ(core->status().epoch, 2u);
  EXPECT_EQ(ring->use(RingArena::kIngest).slots, 2u);
  worker_up(0, 11);
  step(DecoderUp{});
  decode_all();
  ASSERT_EQ(dispatches.size(), 2u);
  const bool text_first = dispatches[0].dispatch.id == id(2);
  const DispatchOrder& with_images = dispatches[text_first ? 1 : 0].dispatch;
  EXPECT_EQ(with_images.attempt, 2u);
  EXPECT_EQ(with_images.committed, (std::vector<std::int32_t>{5, 6}));
  EXPECT_EQ(with_images.images.size(), 2u);
  GenerateRequest again = request(1, 2);
  again.next_index = 1;
  generate(again, 7);
  ASSERT_EQ(told<Tokens>(7).size(), 1u);
  EXPECT_EQ(told<Tokens>(7)[0].index, 1u);
}

TEST_F(Recovery, FinishedOnesAreToldAgainAndEndWithTheirTime) {
  worker_up(0, 10);
  generate(request(1));
  worker_says(0, 10, ending(1, 1, 0));
  start();
  generate(request(1), 2);
  EXPECT_EQ(told<Done>(2).size(), 1u);
  tick(limits.record_ttl);
  EXPECT_EQ(ledger->use().records, 0u);
}

TEST_F(Recovery, UploadsAreLostAndTheirSlotsFree) {
  put(1, 0, fake_image(9, 9));
  start();
  EXPECT_EQ(ring->use(RingArena::kIngest).used, 0u);
  EXPECT_TRUE(core->is_idle());
}

// A restart of everything: this broker's ledger is new, its clients are not.
TEST_F(Recovery, AFirstLifeTakesMissingImagesForLostOnesForAMinute) {
  EXPECT_EQ(core->status().epoch, 1u);
  generate(request(1, 1));
  ASSERT_EQ(told<Refused>().size(), 1u);
  EXPECT_EQ(told<Refused>()[0].code, Code::kClosed);
  EXPECT_GT(told<Refused>()[0].retry_after_ms, 0u);
  put(1, 0, fake_image(9, 9));
  generate(request(1, 1));
  generate(request(2));  // text alone lacks nothing
  EXPECT_EQ(told<Accepted>().size(), 2u);
  tick(limits.restart_grace);
  generate(request(3, 1));
  ASSERT_EQ(told<Refused>().size(), 2u);
  EXPECT_EQ(told<Refused>()[1].code, Code::kInvalidArgument);
  EXPECT_EQ(told<Refused>()[1].retry_after_ms, 0u);
}

TEST_F(Recovery, AnUploadCutInTwoByARestartSucceedsWhenAllIsSentAgain) {
  put(1, 0, fake_image(9, 9));
  start();
  put(1, 1, fake_image(9, 9));
  generate(request(1, 2));
  ASSERT_EQ(told<Refused>().size(), 1u);
  EXPECT_GT(told<Refused>()[0].retry_after_ms, 0u);
  ask_with_images(1, 2);
  EXPECT_EQ(told<Refused>().size(), 1u);
  EXPECT_EQ(told<Accepted>().size(), 1u);
}

TEST_F(Recovery, LostImagesOrAnUnreadableBodyEndTheRequestNotTheBroker) {
  ask_with_images(1, 1);
  generate(request(2));
  const std::uint32_t slot = ledger->view(0).images[0].slot;
  auto* slots = reinterpret_cast<RingSlot*>(ring_memory.span().data() + kRingSlotTableOffset);
  slots[slot].state_gen.store(0xffffffffffffffff);
  const_cast<char*>(ledger->view(1).body.data())[0] = 'X';
  forget();
  start();
  EXPECT_EQ(core->num_unfinished(), 0u);
  EXPECT_EQ(core->status().counters.failed[static_cast<int>(Code::kInternal)], 2u);
  generate(request(1, 1), 5);
  EXPECT_NE(told<Done>(5).at(0).error.find("images"), std::string::npos);
}

TEST_F(Recovery, ARecordInHandAtTwoBrokerDeathsIsQuarantined) {
  generate(request(1));
  generate(request(2));
  die_with_record(0);
  start();
  EXPECT_EQ(core->num_unfinished(), 2u);
  die_with_record(0);
  start();
  EXPECT_EQ(core->num_unfinished(), 1u);
  generate(request(1), 5);
  EXPECT_EQ(told<Done>(5).at(0).code, Code::kQuarantined);
}

TEST_F(Recovery, ItCanBeKilledAndRepeatedWithoutLoss) {
  worker_up(0, 10);
  for (std::uint8_t i = 1; i <= 5; ++i) generate(request(i));
  worker_says(0, 10, update(1, 1, 0, {5}));
  for (int i = 0; i < 20; ++i) start();
  EXPECT_EQ(core->num_unfinished(), 5u);
  EXPECT_EQ(core->status().epoch, 21u);
}

// Finished records fill the ledger. Those whose clients had their time before the death make room.
class FullTakeover : public Recovery {
 protected:
  FullTakeover() {
    worker_up(0, 10, 64);
    tick(time_to_ask());  // this broker itself is no new one
  }
  Nanos time_to_ask() const { return limits.record_ttl_when_full; }
  void ask() {
    for (std::uint8_t i = 1; i <= 40; ++i) generate(request(i));
  }
  void answer() {
    for (std::uint8_t i = 1; i <= 40; ++i) worker_says(0, 10, ending(i, 1, 0));
  }
  bool has_room() {
    const std::size_t before = told<Accepted>().size();
    generate(request(99));
    if (told<Accepted>().size() == before) return false;
    step(ClientCancel{1, id(99)});
    return true;
  }
};

TEST_F(FullTakeover, WhatWasToldLongBeforeTheDeathMakesRoomAtOnce) {
  ask();
  answer();
  tick(time_to_ask());
  start();
  EXPECT_TRUE(has_room());
}

TEST_F(FullTakeover, ABrokerWithNothingToDoKnowsToASecondWhoHadTheTime) {
  ask();
  answer();
  const Nanos death = now + time_to_ask() + kSecond;
  int wakes = 0;
  for (auto next = core->next_deadline(); next && *next <= death; next = core->next_deadline()) {
    now = std::max(now, *next);
    step(TimerTick{});
    ASSERT_LT(++wakes, 100);
  }
  now = death;
  start();
  EXPECT_TRUE(has_room());
}

TEST_F(FullTakeover, WhatWasToldShortlyBeforeTheDeathStaysForItsClients) {
  ask();
  answer();
  tick(time_to_ask() - kMillisecond);
  start();
  EXPECT_FALSE(has_room());
  tick(time_to_ask() - 1);
  EXPECT_FALSE(has_room());
  tick(1);
  EXPECT_TRUE(has_room());
}

TEST_F(FullTakeover, WhatNobodyWasToldStaysHoweverOldItIs) {
  ask();
  step(ClientGone{1});
  answer();
  tick(2 * time_to_ask());
  start();
  EXPECT_FALSE(has_room());
  tick(time_to_ask());
  EXPECT_TRUE(has_room());
}

TEST_F(FullTakeover, AnEndThatDidNotFitIntoAClientsSocketWasNotTold) {
  ask();
  answer();
  for (const Done& done : told<Done>()) step(ClientBlocked{1, done});
  step(ClientGone{1});
  tick(2 * time_to_ask());
  start();
  EXPECT_FALSE(has_room());
}

TEST_F(FullTakeover, TheTimeBetweenBrokersThatDieSoonCountsForNobody) {
  ask();
  answer();
  for (int life = 0; life < 20; ++life) {
    start();
    EXPECT_FALSE(has_room()) << "life " << life;
    tick(time_to_ask() / 5);
  }
  tick(time_to_ask());
  start();
  EXPECT_TRUE(has_room());
}

TEST_F(FullTakeover, ATimeInWhichTheBrokerItselfStoodStillCountsForNobody) {
  ask();
  answer();
  now += 3 * time_to_ask();
  step(Paused{3 * time_to_ask()});
  EXPECT_FALSE(has_room());
  start();
  EXPECT_FALSE(has_room());
  tick(time_to_ask());
  EXPECT_TRUE(has_room());
}

TEST_F(FullTakeover, AWordFromTheFutureIsNotBelieved) {
  ask();
  answer();
  ledger->set_heard_before(now + 1000 * kSecond);
  start();
  EXPECT_FALSE(has_room());
}

}  // namespace
}  // namespace facet
