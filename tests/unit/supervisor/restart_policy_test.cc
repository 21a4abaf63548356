#include "broker/supervisor/restart_policy.h"

#include <gtest/gtest.h>

#include <csignal>

#include "broker/supervisor/progress_watch.h"

namespace facet {
namespace {

TEST(OwnFault, FaultsAndBadExitsAre) {
  for (const int number : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP, SIGXCPU}) {
    EXPECT_TRUE(is_own_fault({true, number})) << number;
  }
  for (const int number : {SIGKILL, SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGPIPE}) {
    EXPECT_FALSE(is_own_fault({true, number})) << number;
  }
  EXPECT_FALSE(is_own_fault({false, 0}));
  for (const int code : {1, 2, 70, 71, 72, 127}) EXPECT_TRUE(is_own_fault({false, code})) << code;
  EXPECT_FALSE(is_own_fault({false, 73}));  // the device's
}

TEST(BackOff, ZeroThenDoublesUpToTheLongest) {
  const BackOff back_off{kSecond, 60 * kSecond};
  const Nanos expected[] = {0, 0, 1, 2, 4, 8, 16, 32, 60, 60};
  for (std::uint32_t deaths = 0; deaths < 10; ++deaths) {
    EXPECT_EQ(back_off.delay(deaths), expected[deaths] * kSecond) << deaths;
  }
  EXPECT_EQ(back_off.delay(UINT32_MAX), 60 * kSecond);
  EXPECT_EQ((BackOff{100, 50}).delay(5), 50);
}

TEST(ProgressWatch, EachPhaseHasItsDeadline) {
  const PhaseDeadlines deadlines{600 * kSecond, 180 * kSecond, 5 * kSecond, 60 * kSecond};
  ProgressWatch watch;
  watch.start(0);
  EXPECT_FALSE(watch.is_overdue(deadlines, 600 * kSecond));
  EXPECT_TRUE(watch.is_overdue(deadlines, 600 * kSecond + 1));
  watch.see(WorkerPhase::kIdle, 1, 700 * kSecond);
  EXPECT_FALSE(watch.is_overdue(deadlines, 705 * kSecond));
  EXPECT_TRUE(watch.is_overdue(deadlines, 706 * kSecond));
  watch.see(WorkerPhase::kIdle, 1, 706 * kSecond);  // nothing moved
  EXPECT_TRUE(watch.is_overdue(deadlines, 706 * kSecond));
  watch.see(WorkerPhase::kDecode, 1, 706 * kSecond);  // another phase is progress
  EXPECT_FALSE(watch.is_overdue(deadlines, 766 * kSecond));
  EXPECT_TRUE(watch.is_overdue(deadlines, 767 * kSecond));
  watch.see(WorkerPhase::kWarmUp, 2, 800 * kSecond);
  EXPECT_FALSE(watch.is_overdue(deadlines, 980 * kSecond));
  EXPECT_TRUE(watch.is_overdue(deadlines, 981 * kSecond));
}

TEST(OwnFault, WhatWasSaidCountsForThatSignalOnly) {
  EXPECT_TRUE(is_own_fault({true, SIGSEGV}));
  EXPECT_TRUE(is_own_fault({true, SIGSEGV}, FatalSignal{SIGSEGV, 1, false}));
  EXPECT_FALSE(is_own_fault({true, SIGSEGV}, FatalSignal{SIGSEGV, 0, false}));
  EXPECT_TRUE(is_own_fault({true, SIGABRT}, FatalSignal{SIGABRT, -6, true}));
  EXPECT_FALSE(is_own_fault({true, SIGABRT}, FatalSignal{SIGABRT, -6, false}));
  EXPECT_TRUE(is_own_fault({true, SIGBUS}, FatalSignal{SIGSEGV, 0, false}));
  EXPECT_FALSE(is_own_fault({true, SIGKILL}, FatalSignal{SIGSEGV, 1, false}));
  EXPECT_TRUE(is_own_fault({false, 70}, FatalSignal{SIGSEGV, 0, false}));
  EXPECT_FALSE(is_own_fault({false, 0}, FatalSignal{SIGSEGV, 1, false}));
}

}  // namespace
}  // namespace facet
