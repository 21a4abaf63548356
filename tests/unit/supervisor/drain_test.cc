// The daemon finishes what is accepted and ends, for an operator or by a signal.
#include <gtest/gtest.h>

#include "tests/unit/supervisor/supervisor_world.h"

namespace facet {
namespace {

class Drain : public testing::Test {
 protected:
  Drain() : world(SupervisorRules{.num_workers = 2}) { world.start_all(); }
  void unfinished(std::uint32_t count) {
    world.feed(BrokerSaid{{.kind = ControlKind::kStatus, .value = count}});
  }
  void keep_alive(Nanos time) {
    for (Nanos passed = 0; passed < time && !world.left; passed += kSecond) {
      world.pass(kSecond);
      unfinished(7);
      for (std::uint32_t w = 0; w < 2; ++w) {
        world.page(w, WorkerPhase::kIdle, static_cast<std::uint64_t>(world.now), 0, true);
      }
    }
  }
  SupervisorWorld world;
};

TEST_F(Drain, OfAnOperatorHasNoBoundOfItsOwn) {
  unfinished(7);
  world.ask(OperatorKind::kDrain);
  EXPECT_EQ(world.count(ControlKind::kDrain), 1);
  keep_alive(500 * kSecond);
  EXPECT_FALSE(world.left);
  EXPECT_TRUE(world.is_running(Role::kWorker, 1));
  world.exit(Role::kBroker, 0, {false, 0});
  world.obey();
  EXPECT_TRUE(world.left);
  EXPECT_EQ(world.exit_code, 0);
  ASSERT_TRUE(world.answer());
  EXPECT_EQ(world.answer()->exit_code, 0);
}

TEST_F(Drain, WithADeadlineEndsThenAndSaysWhatIsLost) {
  unfinished(7);
  world.ask(OperatorKind::kDrain, 0, 20 * kSecond);
  keep_alive(19 * kSecond);
  EXPECT_FALSE(world.left);
  keep_alive(2 * kSecond);
  world.obey();
  EXPECT_TRUE(world.left);
  ASSERT_TRUE(world.answer());
  EXPECT_EQ(world.answer()->exit_code, 1);
  EXPECT_NE(world.answer()->text.find("7 requests unfinished"), std::string::npos);
}

TEST_F(Drain, IsTakenBack) {
  unfinished(7);
  world.ask(OperatorKind::kDrain, 0, 20 * kSecond);
  const std::uint64_t drainer = world.last_operator;
  world.ask(OperatorKind::kCancelDrain);
  EXPECT_EQ(world.count(ControlKind::kUndrain), 1);
  EXPECT_EQ(world.answer()->exit_code, 0);
  ASSERT_TRUE(world.answer_to(drainer));
  EXPECT_EQ(world.answer_to(drainer)->exit_code, 1);
  keep_alive(60 * kSecond);
  EXPECT_FALSE(world.left);
  world.ask(OperatorKind::kRestartWorker, 0);
  EXPECT_EQ(world.count(ControlKind::kDrainWorker), 1);
}

TEST_F(Drain, OfASignalIsNotTakenBackAndShortensAnOperators) {
  unfinished(7);
  world.ask(OperatorKind::kDrain);
  world.feed(StopRequested{});
  world.ask(OperatorKind::kCancelDrain);
  EXPECT_EQ(world.answer()->exit_code, 1);
  EXPECT_FALSE(world.left);
  keep_alive(31 * kSecond);
  world.obey();
  EXPECT_TRUE(world.left);
}

TEST_F(Drain, OutlivesABroker) {
  unfinished(7);
  world.ask(OperatorKind::kDrain);
  world.exit(Role::kBroker, 0, {true, SIGKILL});
  world.obey();
  ASSERT_TRUE(world.is_running(Role::kBroker)) << "somebody must finish the requests";
  world.broker_ready();
  EXPECT_EQ(world.count(ControlKind::kDrain), 1) << "told again";
  world.exit(Role::kWorker, 0, {true, SIGKILL});
  EXPECT_TRUE(world.is_running(Role::kWorker, 0)) << "workers are needed to the end";
  world.exit(Role::kBroker, 0, {false, 0});
  world.obey();
  EXPECT_TRUE(world.left);
  EXPECT_EQ(world.answer()->exit_code, 0);
}

TEST_F(Drain, GivesARestartUp) {
  world.ask(OperatorKind::kRestartRolling);
  const std::uint64_t restarter = world.last_operator;
  world.ask(OperatorKind::kDrain);
  ASSERT_TRUE(world.answer_to(restarter));
  EXPECT_EQ(world.answer_to(restarter)->exit_code, 1);
  world.ask(OperatorKind::kRestartRolling);
  EXPECT_EQ(world.answer()->exit_code, 1);
}

TEST_F(Drain, ADeadlineGivenLaterCounts) {
  unfinished(7);
  world.ask(OperatorKind::kDrain);
  world.ask(OperatorKind::kDrain, 0, 5 * kSecond);
  keep_alive(6 * kSecond);
  world.obey();
  EXPECT_TRUE(world.left);
}

}  // namespace
}  // namespace facet
