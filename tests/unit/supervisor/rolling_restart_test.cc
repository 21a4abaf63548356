// Restarts that an operator asks for: one worker away at a time, whatever happens meanwhile.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/supervisor/supervisor_world.h"

namespace facet {
namespace {

class Restarts : public testing::Test {
 protected:
  static SupervisorRules rules(std::uint32_t num_workers) {
    SupervisorRules rules;
    rules.num_workers = num_workers;
    return rules;
  }
  explicit Restarts(std::uint32_t num_workers = 3) : world(rules(num_workers)) {
    world.start_all();
  }
  // The worker that the broker was last told to drain, still in the life that was meant.
  std::optional<std::uint32_t> draining() {
    for (auto packet = world.told.rbegin(); packet != world.told.rend(); ++packet) {
      if (packet->kind != ControlKind::kDrainWorker) continue;
      if (!world.is_running(Role::kWorker, packet->worker)) return std::nullopt;
      const ChildId now = world.running(Role::kWorker, packet->worker);
      if (now.incarnation == packet->incarnation) return packet->worker;
      return std::nullopt;
    }
    return std::nullopt;
  }
  void drained(std::uint32_t worker) { world.exit(Role::kWorker, worker, {false, 0}); }
  void ready(std::uint32_t worker) { world.page(worker, WorkerPhase::kIdle, ++progress_, 0, true); }
  void replace_broker() {
    ASSERT_EQ(world.count(ControlKind::kRetire), 1);
    world.exit(Role::kBroker, 0, {false, 0});
    world.obey();  // the decoder
    world.broker_ready();
  }
  bool was_told(const std::string& part) {
    return std::ranges::any_of(world.replies, [&](const TellOperator& reply) {
      return reply.text.find(part) != std::string::npos;
    });
  }

  SupervisorWorld world;
  std::uint64_t progress_ = 10;
};

TEST_F(Restarts, OneAfterTheOtherThenBrokerAndDecoder) {
  const ChildId broker = world.running(Role::kBroker);
  const ChildId decoder = world.running(Role::kDecoder);
  world.ask(OperatorKind::kRestartRolling);
  for (std::uint32_t worker = 0; worker < 3; ++worker) {
    ASSERT_EQ(draining(), worker);
    EXPECT_EQ(world.core.num_ready(), 3u);
    world.pass(kSecond);
    ASSERT_EQ(draining(), worker) << "it takes its time";
    drained(worker);
    EXPECT_EQ(world.core.num_ready(), 2u);
    EXPECT_FALSE(draining()) << "the next one waits for its successor";
    EXPECT_TRUE(world.is_running(Role::kWorker, worker));
    EXPECT_EQ(world.count(ControlKind::kRetire), 0);
    ready(worker);
  }
  EXPECT_FALSE(world.answer());
  replace_broker();
  EXPECT_NE(world.running(Role::kBroker), broker);
  EXPECT_NE(world.running(Role::kDecoder), decoder);
  ASSERT_TRUE(world.answer());
  EXPECT_EQ(world.answer()->exit_code, 0);
  EXPECT_EQ(world.starts["worker 0"], 2);
}

TEST_F(Restarts, AWorkerThatTakesTooLongIsEnded) {
  world.ask(OperatorKind::kRestartRolling, 0, 5 * kSecond);
  world.pass(4 * kSecond);
  for (std::uint32_t i = 0; i < 3; ++i) ready(i);
  ASSERT_EQ(draining(), 0u);
  world.pass(kSecond);
  EXPECT_FALSE(world.count(ControlKind::kWorkerDead));
  world.obey();  // SIGTERM
  EXPECT_EQ(world.last(ControlKind::kWorkerDead).own_fault, 0u);
  ready(0);
  EXPECT_EQ(draining(), 1u);
  EXPECT_TRUE(was_told("goes on elsewhere"));
}

TEST_F(Restarts, AWorkerThatDiesMeanwhileIsWaitedForAndNotRestartedTwice) {
  world.ask(OperatorKind::kRestartRolling);
  world.exit(Role::kWorker, 2, {true, SIGKILL});
  drained(0);
  ready(0);
  EXPECT_FALSE(draining()) << "worker 2 is away";
  EXPECT_TRUE(was_told("worker 1 waits until worker 2 is ready"));
  ready(2);
  EXPECT_EQ(draining(), 1u);
  drained(1);
  ready(1);
  EXPECT_EQ(world.starts["worker 2"], 2) << "new already";
  replace_broker();
  EXPECT_TRUE(world.answer());
}

TEST_F(Restarts, DeathsOfTheDrainedOneAndOfItsSuccessorAreNoEnd) {
  world.ask(OperatorKind::kRestartWorker, 1);
  ASSERT_EQ(draining(), 1u);
  world.exit(Role::kWorker, 1, {true, SIGSEGV});
  EXPECT_EQ(world.last(ControlKind::kWorkerDead).own_fault, 1u) << "a poison request still counts";
  for (int i = 0; i < 5; ++i) {
    world.pass(70 * kSecond);
    ASSERT_TRUE(world.is_running(Role::kWorker, 1));
    world.exit(Role::kWorker, 1, {true, SIGKILL});
    EXPECT_FALSE(world.answer());
  }
  world.pass(70 * kSecond);
  ready(1);
  ASSERT_TRUE(world.answer());
  EXPECT_EQ(world.answer()->exit_code, 0);
  EXPECT_EQ(world.count(ControlKind::kRetire), 0) << "one worker only";
}

TEST_F(Restarts, ABrokerKilledMeanwhileHearsOfTheDrain) {
  world.ask(OperatorKind::kRestartRolling);
  world.exit(Role::kBroker, 0, {true, SIGKILL});
  world.obey();
  EXPECT_EQ(world.count(ControlKind::kDrainWorker), 1) << "told to the new one";
  world.broker_ready();
  for (std::uint32_t worker = 0; worker < 3; ++worker) {
    ASSERT_EQ(draining(), worker);
    drained(worker);
    ready(worker);
  }
  EXPECT_EQ(world.count(ControlKind::kRetire), 0) << "new already";
  ASSERT_TRUE(world.answer());
  EXPECT_EQ(world.answer()->exit_code, 0);
}

TEST_F(Restarts, ASuccessorThatDoesNotComeUpEndsItAndItsConfiguration) {
  world.ask(OperatorKind::kRestartRolling);
  drained(0);
  world.exit(Role::kWorker, 0, {false, kExitBadConfig});
  ASSERT_TRUE(world.answer());
  EXPECT_EQ(world.answer()->exit_code, 1);
  EXPECT_EQ(world.restored, 1);
  EXPECT_EQ(world.count(ControlKind::kWorkerDisabled), 0);
  world.pass(70 * kSecond);
  EXPECT_TRUE(world.is_running(Role::kWorker, 0)) << "as it was before";
  EXPECT_FALSE(draining());
}

TEST_F(Restarts, ADrainEndsItAndItsConfiguration) {
  world.ask(OperatorKind::kRestartRolling);
  drained(0);
  ready(0);
  const std::uint64_t restarter = world.last_operator;
  world.feed(BrokerSaid{{.kind = ControlKind::kStatus, .value = 7}});
  world.ask(OperatorKind::kDrain);
  ASSERT_TRUE(world.answer_to(restarter));
  EXPECT_EQ(world.answer_to(restarter)->exit_code, 1);
  EXPECT_EQ(world.restored, 1);
  world.ask(OperatorKind::kCancelDrain);
  world.ask(OperatorKind::kRestartWorker, 1);
  world.ask(OperatorKind::kDrain);
  EXPECT_EQ(world.restored, 1) << "the restart of one worker reads no configuration";
}

TEST_F(Restarts, ThreeFailedStartsEndIt) {
  world.ask(OperatorKind::kRestartRolling);
  drained(0);
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(world.answer());
    world.exit(Role::kWorker, 0, {false, kExitEngine});
    world.pass(10 * kSecond);
    for (std::uint32_t w = 1; w < 3; ++w) ready(w);
  }
  ASSERT_TRUE(world.answer());
  EXPECT_EQ(world.answer()->exit_code, 1);
}

TEST_F(Restarts, AreOneAtATimeAndOfWorkersThatExist) {
  world.ask(OperatorKind::kRestartWorker, 3);
  ASSERT_TRUE(world.answer());
  EXPECT_EQ(world.answer()->exit_code, 2);
  world.ask(OperatorKind::kRestartRolling);
  world.ask(OperatorKind::kRestartWorker, 1);
  ASSERT_TRUE(world.answer());
  EXPECT_EQ(world.answer()->exit_code, 1);
  EXPECT_NE(world.answer()->text.find("worker 0 drains"), std::string::npos);
}

TEST_F(Restarts, BringADisabledWorkerBack) {
  world.exit(Role::kWorker, 1, {false, kExitBadConfig});
  EXPECT_EQ(world.core.num_disabled(), 1u);
  world.pass(70 * kSecond);
  EXPECT_FALSE(world.is_running(Role::kWorker, 1));
  for (std::uint32_t w : {0u, 2u}) ready(w);
  world.ask(OperatorKind::kRestartWorker, 1);
  ASSERT_TRUE(world.is_running(Role::kWorker, 1));
  ready(1);
  ASSERT_TRUE(world.answer());
  EXPECT_EQ(world.answer()->exit_code, 0);
}

class LoneRestart : public Restarts {
 protected:
  LoneRestart() : Restarts(1) {}
};

TEST_F(LoneRestart, NeedsNoOther) {
  world.ask(OperatorKind::kRestartRolling);
  ASSERT_EQ(draining(), 0u);
  drained(0);
  ready(0);
  replace_broker();
  EXPECT_TRUE(world.answer());
}

}  // namespace
}  // namespace facet
