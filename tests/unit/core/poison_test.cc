#include "tests/unit/core/core_fixture.h"

namespace facet {
namespace {

class Poison : public CoreFixture {
 protected:
  // Three requests run on worker 0, which dies by its own fault.
  void one_death_in_a_batch() {
    worker_up(0, 10, 8);
    for (std::uint8_t i = 1; i <= 3; ++i) generate(request(i));
    step(WorkerDead{0, 10, true, -11});
    forget();
  }
};

TEST_F(Poison, SuspectsRunAloneOneAtATimeOverAllWorkers) {
  one_death_in_a_batch();
  worker_up(0, 11, 8);
  worker_up(1, 20, 8);
  ASSERT_EQ(dispatches.size(), 1u);
  const std::uint32_t exposed = dispatches[0].worker;
  generate(request(4));
  generate(request(5));
  ASSERT_EQ(dispatches.size(), 3u);  // the others are served, elsewhere
  EXPECT_NE(dispatches[1].worker, exposed);
  EXPECT_NE(dispatches[2].worker, exposed);
  worker_says(exposed, exposed == 0 ? 11 : 20, ending(1, 2, 0));
  ASSERT_EQ(dispatches.size(), 4u);
  EXPECT_EQ(dispatches[3].dispatch.id, id(2));
}

TEST_F(Poison, OneDeathAloneQuarantinesAndTheOthersFinish) {
  one_death_in_a_batch();
  worker_up(0, 11, 8);
  step(WorkerDead{0, 11, true, -11});
  ASSERT_EQ(told<Done>().size(), 1u);
  EXPECT_EQ(told<Done>()[0].code, Code::kQuarantined);
  EXPECT_EQ(told<Done>()[0].id, id(1));
  step(WorkerReaped{0, 11});
  worker_up(0, 12, 8);
  worker_says(0, 12, ending(2, 2, 0));
  worker_says(0, 12, ending(3, 2, 0));
  EXPECT_EQ(told<Done>().size(), 3u);
  EXPECT_EQ(core->status().counters.quarantined, 1u);
}

TEST_F(Poison, DeathsFromOutsideNeverStrike) {
  for (std::uint64_t life = 10; life < 20; ++life) {
    worker_up(0, life, 8);
    if (life == 10) generate(request(1));
    step(WorkerDead{0, life, false, -9});
    step(WorkerReaped{0, life});
  }
  EXPECT_EQ(core->num_unfinished(), 1u);
  EXPECT_EQ(core->status().suspects, 0u);
}

TEST_F(Poison, AnOutsideKillOfASuspectLeavesItASuspect) {
  one_death_in_a_batch();
  worker_up(0, 11, 8);
  step(WorkerDead{0, 11, false, -9});
  EXPECT_TRUE(told<Done>().empty());
  EXPECT_EQ(core->status().suspects, 3u);
}

TEST_F(Poison, ABusyWorkerIsHeldBackUntilItIsEmpty) {
  one_death_in_a_batch();
  step(ClientCancel{1, id(2)});
  step(ClientCancel{1, id(3)});
  worker_up(1, 20, 8);
  ASSERT_EQ(dispatches.size(), 1u);  // suspect 1 at worker 1
  worker_says(1, 20, ending(1, 2, 0, SequenceEnd::Kind::kPreempted));
  generate(request(4));
  tick(limits.preempt_backoff);
  generate(request(5));
  ASSERT_EQ(dispatches.size(), 2u);  // 4 runs; 5 and the suspect wait
  EXPECT_EQ(dispatches[1].dispatch.id, id(4));
  worker_says(1, 20, ending(4, 1, 0));
  ASSERT_EQ(dispatches.size(), 3u);
  EXPECT_EQ(dispatches[2].dispatch.id, id(1));
  worker_says(1, 20, ending(1, 3, 0));
  EXPECT_EQ(dispatches.back().dispatch.id, id(5));
}

TEST_F(Poison, StrikesOutliveTheBroker) {
  one_death_in_a_batch();
  start();
  EXPECT_EQ(core->status().suspects, 3u);
  worker_up(0, 30, 8);
  EXPECT_EQ(dispatches.size(), 1u);
}

}  // namespace
}  // namespace facet
