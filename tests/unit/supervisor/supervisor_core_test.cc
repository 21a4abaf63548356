#include "broker/supervisor/supervisor_core.h"

#include <gtest/gtest.h>

#include "tests/unit/supervisor/supervisor_world.h"

namespace facet {
namespace {

constexpr ChildEnd kKilled{true, SIGKILL};
constexpr ChildEnd kCrashed{true, SIGSEGV};

SupervisorRules rules(std::uint32_t num_workers = 2) {
  SupervisorRules rules;
  rules.num_workers = num_workers;
  return rules;
}

TEST(SupervisorCore, StartsTheBrokerThenTheOthers) {
  SupervisorWorld world(rules(3));
  world.feed(TimePassed{});
  EXPECT_EQ(world.processes.size(), 1u);
  EXPECT_TRUE(world.is_running(Role::kBroker));
  world.broker_ready();
  EXPECT_EQ(world.processes.size(), 5u);
  EXPECT_EQ(world.count(ControlKind::kWorkerStarted), 3);
  EXPECT_EQ(world.count(ControlKind::kDecoderStarted), 1);
  EXPECT_FALSE(world.ready);
  world.page(1, WorkerPhase::kLoad, 3, 0, false);
  EXPECT_FALSE(world.ready);
  world.page(1, WorkerPhase::kIdle, 4, 0, true);
  EXPECT_TRUE(world.ready);
}

TEST(SupervisorCore, DeadWorkerIsToldAndReplacedAtOnce) {
  SupervisorWorld world(rules());
  world.start_all();
  world.page(0, WorkerPhase::kDecode, 2, 1, true);
  const ChildId former = world.running(Role::kWorker, 0);
  world.exit(Role::kWorker, 0, kKilled);
  EXPECT_EQ(world.last(ControlKind::kWorkerDead).incarnation, former.incarnation);
  EXPECT_EQ(world.last(ControlKind::kWorkerDead).own_fault, 0u);
  EXPECT_EQ(world.last(ControlKind::kWorkerDead).exit_code, -SIGKILL);
  EXPECT_EQ(world.last(ControlKind::kWorkerReaped).incarnation, former.incarnation);
  EXPECT_TRUE(world.is_running(Role::kWorker, 0));
  EXPECT_EQ(world.last(ControlKind::kWorkerStarted).incarnation,
            world.running(Role::kWorker, 0).incarnation);
  world.page(0, WorkerPhase::kDecode, 2, 1, true);
  world.exit(Role::kWorker, 0, kCrashed);
  EXPECT_EQ(world.last(ControlKind::kWorkerDead).own_fault, 1u);
}

// What the handler said, the end that waitid() told, and whether the process was to blame.
struct Verdict {
  FatalSignal said;
  ChildEnd end;
  std::uint32_t own_fault = 0;
};

TEST(SupervisorCore, LastWordsAreToldAtOnceAndJudgeTheSignal) {
  constexpr int kAddressError = 1, kFromKernel = 128, kFromKill = 0, kFromTkill = -6;
  const Verdict verdicts[] = {
      {{SIGSEGV, kAddressError, false}, {true, SIGSEGV}, 1},
      {{SIGSEGV, kFromKernel, false}, {true, SIGSEGV}, 1},
      {{SIGSEGV, kFromKill, false}, {true, SIGSEGV}, 0},
      {{SIGABRT, kFromTkill, true}, {true, SIGABRT}, 1},  // abort()
      {{SIGABRT, kFromTkill, false}, {true, SIGABRT}, 0},
      {{SIGSEGV, kAddressError, false}, {true, SIGKILL}, 1},  // killed while it died of a fault
      {{SIGABRT, kFromKill, false}, {true, SIGKILL}, 0},
  };
  for (const Verdict& verdict : verdicts) {
    SCOPED_TRACE(verdict.said.number * 1000 + verdict.said.code);
    SupervisorWorld world(rules(2));
    world.start_all();
    const ChildId dying = world.running(Role::kWorker, 1);
    world.feed(LastWordsHeard{dying, verdict.said});
    world.feed(LastWordsHeard{dying, verdict.said});
    EXPECT_EQ(world.count(ControlKind::kWorkerDead), 1);
    EXPECT_EQ(world.last(ControlKind::kWorkerDead).own_fault, verdict.own_fault);
    EXPECT_EQ(world.last(ControlKind::kWorkerDead).exit_code, -verdict.said.number);
    EXPECT_EQ(world.count(ControlKind::kWorkerReaped), 0);  // it may still read
    EXPECT_EQ(world.starts["worker 1"], 1);
    EXPECT_EQ(world.core.num_ready(), 1u);
    world.page(1, WorkerPhase::kDecode, 1, 0, true);
    world.exit(Role::kWorker, 1, verdict.end);
    EXPECT_EQ(world.count(ControlKind::kWorkerDead), 1);
    EXPECT_EQ(world.last(ControlKind::kWorkerReaped).own_fault, verdict.own_fault);
    EXPECT_EQ(world.starts["worker 1"], 2);
  }
}

TEST(SupervisorCore, ADeathIsToldBeforeItCanBeReaped) {
  const std::pair<ChildEnd, std::uint32_t> ends[] = {
      {{true, SIGKILL}, 0}, {{true, SIGTERM}, 0}, {{false, 70}, 1}, {{true, SIGSYS}, 1}};
  for (const auto& [end, own_fault] : ends) {
    SCOPED_TRACE(end.code);
    SupervisorWorld world(rules(1));
    world.start_all();
    const ChildId dying = world.running(Role::kWorker);
    world.feed(DeathSeen{dying, end});
    world.feed(DeathSeen{dying, end});
    world.feed(LastWordsHeard{dying, {SIGSEGV, 1, false}});
    EXPECT_EQ(world.count(ControlKind::kWorkerDead), 1);
    EXPECT_EQ(world.last(ControlKind::kWorkerDead).own_fault, own_fault);
    EXPECT_EQ(world.count(ControlKind::kWorkerReaped), 0);
    EXPECT_EQ(world.starts["worker 0"], 1);
    world.exit(Role::kWorker, 0, end);
    EXPECT_EQ(world.count(ControlKind::kWorkerDead), 1);
    EXPECT_EQ(world.last(ControlKind::kWorkerReaped).own_fault, own_fault);
    EXPECT_EQ(world.starts["worker 0"], 2);
  }
}

TEST(SupervisorCore, LastWordsOfTheLivingEndThem) {
  SupervisorWorld world(rules(1));
  world.start_all();
  world.feed(LastWordsHeard{world.running(Role::kWorker), {SIGSEGV, 1, false}});
  EXPECT_TRUE(world.processes.back().signals.empty());
  world.pass(2 * kSecond);
  EXPECT_EQ(world.processes.back().signals, std::vector<int>{SIGKILL});
  world.obey();
  EXPECT_EQ(world.last(ControlKind::kWorkerReaped).own_fault, 1u);
  EXPECT_TRUE(world.is_running(Role::kWorker));
}

TEST(SupervisorCore, AHangStaysItsOwnFaultWhateverItsLastWords) {
  SupervisorWorld world(rules(1));
  world.start_all();
  for (int i = 0; i < 6; ++i) {
    world.pass(kSecond);
    world.page(0, WorkerPhase::kIdle, 1, 0, true);
  }
  const ChildId hung = world.running(Role::kWorker);
  world.feed(LastWordsHeard{hung, {SIGABRT, 0, false}});  // of our own SIGABRT
  EXPECT_EQ(world.count(ControlKind::kWorkerDead), 1);
  world.exit(Role::kWorker, 0, {true, SIGABRT});
  EXPECT_EQ(world.last(ControlKind::kWorkerDead).own_fault, 1u);
  EXPECT_EQ(world.last(ControlKind::kWorkerReaped).own_fault, 1u);
  world.feed(LastWordsHeard{hung, {SIGSEGV, 1, false}});  // of a life that is over
  EXPECT_EQ(world.count(ControlKind::kWorkerDead), 1);
}

TEST(SupervisorCore, EarlyDeathsBackOffAndAStepForgivesThem) {
  SupervisorWorld world(rules(1));
  world.start_all();
  const Nanos expected[] = {0, 1, 2, 4, 8, 16, 32, 60, 60};
  for (const Nanos delay : expected) {
    world.exit(Role::kWorker, 0, {false, 70});
    if (delay > 0) {
      world.pass(delay * kSecond - kMillisecond);
      EXPECT_FALSE(world.is_running(Role::kWorker)) << delay;
      world.pass(2 * kMillisecond);
    }
    ASSERT_TRUE(world.is_running(Role::kWorker)) << delay;
  }
  world.page(0, WorkerPhase::kDecode, 9, 0, true);
  world.feed(BrokerSaid{{.kind = ControlKind::kWorkerFinishedStep,
                         .incarnation = world.running(Role::kWorker).incarnation}});
  world.exit(Role::kWorker, 0, kCrashed);
  EXPECT_TRUE(world.is_running(Role::kWorker));  // it had been of use
  world.exit(Role::kWorker, 0, kCrashed);
  EXPECT_TRUE(world.is_running(Role::kWorker));  // the first early one: at once
  world.exit(Role::kWorker, 0, kCrashed);
  EXPECT_FALSE(world.is_running(Role::kWorker));
}

TEST(SupervisorCore, AQuietLifeIsNotARestartLoop) {
  SupervisorWorld world(rules(1));
  world.start_all();
  for (int i = 0; i < 10; ++i) {
    for (int tick = 0; tick < 12; ++tick) {
      world.pass(kSecond);
      world.page(0, WorkerPhase::kIdle, static_cast<std::uint64_t>(tick) + 2, 0, true);
      world.feed(BrokerSaid{{.kind = ControlKind::kStatus}});
    }
    world.exit(Role::kWorker, 0, kKilled);
    ASSERT_TRUE(world.is_running(Role::kWorker)) << i;
    world.page(0, WorkerPhase::kIdle, 1, 0, true);
  }
}

TEST(SupervisorCore, HungWorkerIsDeclaredDeadAbortedKilledReaped) {
  SupervisorWorld world(rules(1));
  world.start_all();
  world.page(0, WorkerPhase::kIdle, 2, 0, true);
  for (int i = 0; i < 6; ++i) {
    world.pass(kSecond);
    world.page(0, WorkerPhase::kIdle, 2, 0, true);
  }
  const ChildId hung = world.running(Role::kWorker);
  EXPECT_EQ(world.processes.back().id, hung);
  EXPECT_EQ(world.processes.back().signals, std::vector<int>{SIGABRT});
  EXPECT_EQ(world.last(ControlKind::kWorkerDead).own_fault, 1u);
  EXPECT_EQ(world.count(ControlKind::kWorkerReaped), 0);  // it may still read
  world.pass(2 * kSecond);
  EXPECT_EQ(world.processes.back().signals, (std::vector<int>{SIGABRT, SIGKILL}));
  EXPECT_EQ(world.starts["worker 0"], 1);  // never two at once
  world.exit(Role::kWorker, 0, kKilled);
  EXPECT_EQ(world.last(ControlKind::kWorkerReaped).own_fault, 1u);
  EXPECT_EQ(world.count(ControlKind::kWorkerDead), 1);
  EXPECT_EQ(world.starts["worker 0"], 2);
}

TEST(SupervisorCore, StoppedWorkerIsKilledWithoutBlame) {
  SupervisorWorld world(rules(1));
  world.start_all();
  for (int i = 0; i < 6; ++i) {
    world.pass(kSecond);
    world.page(0, WorkerPhase::kIdle, 1, 0, true, true);
  }
  EXPECT_EQ(world.processes.back().signals, std::vector<int>{SIGKILL});
  EXPECT_EQ(world.last(ControlKind::kWorkerDead).own_fault, 0u);
}

TEST(SupervisorCore, BadConfigurationDisablesAndLeavesWhenNobodyIsLeft) {
  SupervisorWorld world(rules(2));
  world.feed(TimePassed{});
  world.broker_ready();
  world.exit(Role::kWorker, 0, {false, kExitBadConfig});
  EXPECT_EQ(world.last(ControlKind::kWorkerDisabled).value, 72u);
  world.pass(120 * kSecond);
  EXPECT_EQ(world.starts["worker 0"], 1);
  world.exit(Role::kWorker, 1, {false, kExitBadConfig});
  world.obey();
  EXPECT_TRUE(world.left);
  EXPECT_EQ(world.exit_code, kExitBadConfig);
}

TEST(SupervisorCore, DisabledAfterServiceStaysUpAndIsToldToALaterBroker) {
  SupervisorWorld world(rules(1));
  world.start_all();
  world.exit(Role::kWorker, 0, {false, kExitDeviceLost});
  EXPECT_FALSE(world.left);
  EXPECT_EQ(world.last(ControlKind::kWorkerDead).own_fault, 0u);
  world.exit(Role::kBroker, 0, kKilled);
  world.obey();
  ASSERT_TRUE(world.is_running(Role::kBroker));
  EXPECT_EQ(world.last(ControlKind::kWorkerDisabled).value, 73u);
}

TEST(SupervisorCore, DecoderIsReplacedOnlyWhenItsChildrenAreGone) {
  SupervisorWorld world(rules(1));
  world.start_all();
  world.decoder_children = true;
  world.exit(Role::kDecoder, 0, kKilled);
  world.pass(10 * kSecond);
  EXPECT_EQ(world.count(ControlKind::kDecoderReaped), 0);
  EXPECT_FALSE(world.is_running(Role::kDecoder));
  world.decoder_children = false;
  world.feed(LifelineClosed{});
  EXPECT_EQ(world.count(ControlKind::kDecoderReaped), 1);
  EXPECT_TRUE(world.is_running(Role::kDecoder));
  EXPECT_EQ(world.count(ControlKind::kDecoderStarted), 2);
}

TEST(SupervisorCore, DecoderThatCannotLiveBacksOff) {
  SupervisorWorld world(rules(1));
  world.start_all();
  for (int i = 0; i < 600; ++i) {
    if (world.is_running(Role::kDecoder)) world.exit(Role::kDecoder, 0, {false, 1});
    world.pass(100 * kMillisecond);
    world.feed(BrokerSaid{{.kind = ControlKind::kStatus}});
    world.page(0, WorkerPhase::kIdle, static_cast<std::uint64_t>(i) + 2, 0, true);
  }
  EXPECT_EQ(world.starts["decoder"], 7);  // after 0, 0, 1, 2, 4, 8, 16 s; the next after 32
}

TEST(SupervisorCore, WorkersOutliveTheBrokerItsDecoderDoesNot) {
  SupervisorWorld world(rules(2));
  world.start_all();
  EXPECT_EQ(world.epoch, 1u);
  const ChildId worker = world.running(Role::kWorker, 1);
  world.decoder_children = true;
  world.exit(Role::kBroker, 0, kCrashed);
  EXPECT_EQ(world.epoch, 0u);
  EXPECT_TRUE(world.processes.size() == 3u);
  world.obey();
  EXPECT_EQ(world.processes.size(), 2u);
  EXPECT_FALSE(world.is_running(Role::kBroker));  // the decoder's children are still there
  world.decoder_children = false;
  world.feed(LifelineClosed{});
  EXPECT_TRUE(world.is_running(Role::kBroker));
  EXPECT_EQ(world.count(ControlKind::kWorkerStarted), 2);
  EXPECT_EQ(world.last(ControlKind::kWorkerStarted).incarnation, worker.incarnation);
  EXPECT_EQ(world.last(ControlKind::kWorkerStarted).value, 1u);
  EXPECT_EQ(world.last(ControlKind::kWorkerStarted).pid, 1000u);
  EXPECT_EQ(world.count(ControlKind::kTakeOver), 1);
  EXPECT_FALSE(world.is_running(Role::kDecoder));
  world.broker_ready();
  EXPECT_EQ(world.epoch, 2u);
  EXPECT_EQ(world.processes.size(), 4u);
  EXPECT_EQ(world.starts["worker 1"], 1);
}

TEST(SupervisorCore, ANewBrokerHearsOfDeathsThatNoneHeard) {
  SupervisorWorld world(rules(3));
  world.start_all();
  const ChildId dead = world.running(Role::kWorker, 0);
  const ChildId dying = world.running(Role::kWorker, 1);
  world.exit(Role::kBroker, 0, kKilled);
  world.exit(Role::kWorker, 0, kCrashed);
  world.feed(LastWordsHeard{dying, {SIGSEGV, 1, false}});
  EXPECT_FALSE(world.is_running(Role::kWorker, 0));  // nobody starts without a broker
  world.obey();
  ASSERT_TRUE(world.is_running(Role::kBroker));
  EXPECT_EQ(world.count(ControlKind::kWorkerStarted), 2);
  ASSERT_EQ(world.count(ControlKind::kWorkerDead), 2);
  EXPECT_EQ(world.told[2].incarnation, dead.incarnation);
  EXPECT_EQ(world.told[2].own_fault, 1u);
  EXPECT_EQ(world.last(ControlKind::kWorkerDead).incarnation, dying.incarnation);
  EXPECT_EQ(world.told[4].kind, ControlKind::kTakeOver);
  world.exit(Role::kWorker, 1, kCrashed);
  EXPECT_EQ(world.last(ControlKind::kWorkerReaped).incarnation, dying.incarnation);
  world.broker_ready();
  EXPECT_EQ(world.num_workers(), 3u);
}

TEST(SupervisorCore, ADrainOutlivesTheBroker) {
  SupervisorWorld world(rules(1));
  world.start_all();
  world.feed(StopRequested{});
  world.exit(Role::kBroker, 0, kKilled);
  world.obey();
  ASSERT_TRUE(world.is_running(Role::kBroker));
  EXPECT_TRUE(world.is_running(Role::kWorker));
  EXPECT_EQ(world.count(ControlKind::kDrain), 0);
  world.broker_ready();
  EXPECT_EQ(world.count(ControlKind::kDrain), 1);
  world.exit(Role::kBroker, 0, {false, 0});
  world.obey();
  EXPECT_TRUE(world.left);
  EXPECT_EQ(world.exit_code, 0);
}

TEST(SupervisorCore, HungBrokerIsReplaced) {
  SupervisorWorld world(rules(1));
  world.start_all();
  for (int i = 0; i < 12; ++i) {
    world.pass(kSecond);
    world.page(0, WorkerPhase::kIdle, static_cast<std::uint64_t>(i) + 2, 0, true);
    world.feed(BrokerSeen{});
  }
  world.obey();
  EXPECT_EQ(world.starts["broker"], 2);
}

TEST(SupervisorCore, ABrokerThatNeverGetsReadyIsReplaced) {
  for (const bool is_stopped : {false, true}) {
    SupervisorWorld world(rules(1));
    world.feed(TimePassed{});
    for (int i = 0; i < 12; ++i) {
      world.pass(kSecond);
      world.feed(BrokerSeen{is_stopped});
    }
    EXPECT_EQ(world.processes.at(0).signals.at(0), is_stopped ? SIGKILL : SIGABRT);
    world.obey();
    world.pass(2 * kSecond);
    EXPECT_EQ(world.starts["broker"], 2);
  }
}

TEST(SupervisorCore, BrokerThatCannotStartBacksOff) {
  SupervisorWorld world(rules(1));
  world.feed(TimePassed{});
  while (world.starts["broker"] < 6) {
    if (world.is_running(Role::kBroker)) world.exit(Role::kBroker, 0, {false, 1});
    world.pass(100 * kMillisecond);
  }
  EXPECT_GE(world.now, 15 * kSecond);  // 0 + 1 + 2 + 4 + 8
  EXPECT_EQ(world.starts["worker 0"], 0);
}

TEST(SupervisorCore, BrokerThatRefusesItsConfigurationEndsIt) {
  SupervisorWorld world(rules(1));
  world.feed(TimePassed{});
  world.exit(Role::kBroker, 0, {false, kExitBadConfig});
  EXPECT_TRUE(world.left);
  EXPECT_EQ(world.exit_code, kExitBadConfig);
}

TEST(SupervisorCore, MissingProgramBacksOffAndIsNamed) {
  SupervisorWorld world(rules(1));
  world.start_fails = true;
  world.feed(TimePassed{});
  world.pass(10 * kSecond);
  EXPECT_GE(world.starts["broker"], 4);
  EXPECT_LE(world.starts["broker"], 6);
  EXPECT_EQ(world.notes[0], "broker could not be started: no such file");
  world.start_fails = false;
  world.pass(60 * kSecond);
  EXPECT_TRUE(world.is_running(Role::kBroker));
}

TEST(SupervisorCore, DrainsThenEndsEverything) {
  SupervisorWorld world(rules(2));
  world.start_all();
  world.feed(BrokerSaid{{.kind = ControlKind::kStatus, .value = 5}});
  world.feed(StopRequested{});
  EXPECT_EQ(world.count(ControlKind::kDrain), 1);
  world.pass(kSecond);
  world.exit(Role::kWorker, 0, kCrashed);  // requests are still to be finished
  EXPECT_TRUE(world.is_running(Role::kWorker, 0));
  world.exit(Role::kBroker, 0, {false, 0});
  for (const auto& process : world.processes) {
    EXPECT_EQ(process.signals, std::vector<int>{SIGTERM});
  }
  world.obey();
  EXPECT_TRUE(world.left);
  EXPECT_EQ(world.exit_code, 0);
}

TEST(SupervisorCore, DrainHasADeadlineAndStubbornOnesAreKilled) {
  SupervisorWorld world(rules(2));
  world.start_all();
  world.feed(StopRequested{});
  for (int i = 0; i < 31; ++i) {
    world.pass(kSecond);
    world.feed(BrokerSaid{{.kind = ControlKind::kStatus, .value = 3}});
    world.page(0, WorkerPhase::kIdle, static_cast<std::uint64_t>(i) + 2, 0, true);
    world.page(1, WorkerPhase::kIdle, static_cast<std::uint64_t>(i) + 2, 0, true);
  }
  world.obey(true);
  EXPECT_EQ(world.processes.size(), 4u);
  world.pass(2 * kSecond);
  world.obey(true);
  EXPECT_TRUE(world.left);
}

TEST(SupervisorCore, ASecondSignalMeansNow) {
  SupervisorWorld world(rules(2));
  world.start_all();
  world.feed(StopRequested{});
  world.feed(StopRequested{});
  world.obey(true);
  EXPECT_TRUE(world.left);
  EXPECT_EQ(world.exit_code, 0);
}

TEST(SupervisorCore, LeavesEvenWhenSomethingCannotBeReaped) {
  SupervisorWorld world(rules(1));
  world.start_all();
  world.feed(StopRequested{});
  world.feed(StopRequested{});
  world.pass(10 * kSecond);
  EXPECT_TRUE(world.left);
  EXPECT_EQ(world.exit_code, kExitFailure);
}

TEST(SupervisorCore, OldNewsIsIgnored) {
  SupervisorWorld world(rules(1));
  world.start_all();
  const ChildId former = world.running(Role::kWorker);
  world.page(0, WorkerPhase::kDecode, 2, 1, true);
  world.exit(Role::kWorker, 0, kKilled);
  world.feed(ChildExited{former, kCrashed});
  world.feed(BrokerSaid{{.kind = ControlKind::kKillWorker, .incarnation = former.incarnation}});
  world.feed(PageSeen{.id = former, .is_stopped = true});
  world.feed(BrokerSaid{{.kind = ControlKind::kKillWorker, .worker = 99, .incarnation = 1}});
  world.feed(LifelineClosed{});
  EXPECT_EQ(world.processes.size(), 3u);
  EXPECT_TRUE(world.processes.back().signals.empty());
  world.feed(BrokerSaid{{.kind = ControlKind::kKillWorker,
                         .incarnation = world.running(Role::kWorker).incarnation}});
  EXPECT_EQ(world.processes.back().signals, std::vector<int>{SIGKILL});
  world.obey();
  EXPECT_EQ(world.last(ControlKind::kWorkerReaped).own_fault, 1u);  // it broke the protocol
}

}  // namespace
}  // namespace facet
