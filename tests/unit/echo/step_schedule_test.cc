#include "worker/echo/step_schedule.h"

#include <gtest/gtest.h>

namespace facet {
namespace {

constexpr Nanos kStep = 5 * kMillisecond;

TEST(StepSchedule, LateStepsShortenTheNextOnes) {
  StepSchedule schedule(kStep);
  Nanos now = kSecond;
  for (int i = 1; i <= 1000; ++i) {
    const Nanos due = schedule.next(now);
    EXPECT_EQ(due, kSecond + i * kStep);
    now = std::max(now, due) + i % 7 * kMillisecond;  // woken up so late
  }
}

TEST(StepSchedule, BeginsAnewAfterARest) {
  StepSchedule schedule(kStep);
  EXPECT_EQ(schedule.next(kSecond), kSecond + kStep);
  schedule.rest();
  EXPECT_EQ(schedule.next(9 * kSecond), 9 * kSecond + kStep);
}

TEST(StepSchedule, DoesNotMakeUpForALongStop) {
  StepSchedule schedule(kStep);
  schedule.next(kSecond);
  const Nanos now = 100 * kSecond;
  int steps = 0;
  while (schedule.next(now) <= now) ++steps;
  EXPECT_EQ(steps, 50);  // a quarter of a second
}

}  // namespace
}  // namespace facet
