// The supervisor itself does not run for a while: the host is suspended, or somebody stops facetd.
#include <gtest/gtest.h>

#include "tests/unit/supervisor/supervisor_world.h"

namespace facet {
namespace {

SupervisorRules one_worker() {
  SupervisorRules rules;
  rules.num_workers = 1;
  return rules;
}

TEST(SupervisorPauses, APauseOfOurOwnIsNobodysHang) {
  SupervisorWorld world(one_worker());
  world.start_all();
  world.now += 3600 * kSecond;  // the host slept, or somebody stopped facetd
  world.page(0, WorkerPhase::kIdle, 1, 0, true);
  world.feed(BrokerSeen{});
  world.feed(TimePassed{});
  EXPECT_TRUE(world.processes.back().signals.empty());
  EXPECT_EQ(world.count(ControlKind::kWorkerDead), 0);
}

TEST(SupervisorPauses, ShortPausesCountAsTheRestThatTheyShouldHaveBeen) {
  SupervisorRules quick = one_worker();
  quick.deadlines.idle = kSecond;
  quick.broker_deadline = kSecond;
  SupervisorWorld world(quick);
  world.start_all();
  const auto look = [&world](std::uint64_t progress) {
    world.page(0, WorkerPhase::kIdle, progress, 0, true);
    world.feed(BrokerSeen{});
  };
  // It gets a moment every few seconds, and so do the others.
  for (std::uint64_t i = 2; i < 50; ++i) {
    world.now += (i % 2 == 0 ? 1900 : 59'000) * kMillisecond;
    look(i - 1);  // as it was, before the worker has run
    world.now += 10 * kMillisecond;
    look(i);
    world.feed(BrokerSaid{{.kind = ControlKind::kStatus}});
  }
  EXPECT_EQ(world.count(ControlKind::kWorkerDead), 0);
  EXPECT_EQ(world.starts["broker"], 1);
  for (const auto& process : world.processes) EXPECT_TRUE(process.signals.empty());
  // Who hangs is found all the same, after as much time as we ran ourselves.
  int moments = 0;
  for (; world.count(ControlKind::kWorkerDead) == 0 && moments < 20; ++moments) {
    world.feed(BrokerSaid{{.kind = ControlKind::kStatus}});
    world.now += 1900 * kMillisecond;
    look(49);
  }
  EXPECT_EQ(moments, 3);
}

}  // namespace
}  // namespace facet
