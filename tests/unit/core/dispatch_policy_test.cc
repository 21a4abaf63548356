#include "broker/core/dispatch_policy.h"

#include <gtest/gtest.h>

#include <vector>

#include "broker/core/speed_meter.h"

namespace facet::core {
namespace {

using Loads = std::vector<WorkerLoad>;

constexpr DispatchPolicy kAll[] = {DispatchPolicy::kLeastLoaded, DispatchPolicy::kRoundRobin,
                                   DispatchPolicy::kLeastConnections, DispatchPolicy::kWeighted,
                                   DispatchPolicy::kPredictedTime};

std::optional<std::uint32_t> pick(DispatchPolicy policy, const Loads& loads,
                                  const DispatchTurns& turns = {}) {
  return pick_worker(policy, loads, 10, turns);
}

// The next `count` choices while nothing ends; loads stay as they are.
std::vector<std::uint32_t> picks(DispatchPolicy policy, const Loads& loads, int count,
                                 std::uint64_t tokens = 10) {
  DispatchTurns turns;
  std::vector<std::uint32_t> chosen;
  for (int i = 0; i < count; ++i) {
    const auto worker = pick_worker(policy, loads, tokens, turns);
    if (!worker) break;
    take_turn(turns, loads, *worker, tokens);
    chosen.push_back(*worker);
  }
  return chosen;
}

TEST(DispatchPolicy, NobodyIsChosenWithoutACredit) {
  for (DispatchPolicy policy : kAll) {
    EXPECT_EQ(pick(policy, {}), std::nullopt);
    EXPECT_EQ(pick(policy, {{false, 0, 0, 5.0}, {false, 0, 0, 5.0}}), std::nullopt);
    EXPECT_EQ(pick(policy, {{false, 0, 0, 50.0}, {true, 800, 40, 1.0}}), 1u);
  }
}

TEST(DispatchPolicy, LeastLoadedIsFewestTokensThenRequestsThenIndex) {
  constexpr auto kPolicy = DispatchPolicy::kLeastLoaded;
  EXPECT_EQ(pick(kPolicy, {{true, 9, 1}, {true, 8, 5}}), 1u);
  EXPECT_EQ(pick(kPolicy, {{true, 8, 5}, {true, 8, 4}}), 1u);
  EXPECT_EQ(pick(kPolicy, {{true, 8, 4}, {true, 8, 4}}), 0u);
}

TEST(DispatchPolicy, LeastLoadedTakesAFreeLaneFirst) {
  constexpr auto kPolicy = DispatchPolicy::kLeastLoaded;
  EXPECT_EQ(pick(kPolicy, {{true, 8, 5}, {true, 800, 4, 0.0, true}}), 1u);
  EXPECT_EQ(pick(kPolicy, {{true, 9, 5, 0.0, true}, {true, 8, 4, 0.0, true}}), 1u);
  EXPECT_EQ(pick(kPolicy, {{false, 8, 5, 0.0, true}, {true, 800, 40}}), 1u);
}

// One state in which each policy has its own answer.
TEST(DispatchPolicy, EachIsToldApart) {
  const Loads loads = {
      {true, 1000, 1, 50.0},  // fewest requests
      {true, 100, 4, 5.0},    // fewest tokens
      {true, 300, 3, 100.0},  // done first
      {true, 400, 6, 10.0},   // next in the round
      {true, 900, 5, 20.0},   // its turn by speed
  };
  DispatchTurns turns;
  turns.next = 3;
  turns.time = 1.0;
  turns.due = {3.0, 3.0, 3.0, 3.0, 2.0};
  EXPECT_EQ(pick(DispatchPolicy::kLeastConnections, loads, turns), 0u);
  EXPECT_EQ(pick(DispatchPolicy::kLeastLoaded, loads, turns), 1u);
  EXPECT_EQ(pick(DispatchPolicy::kPredictedTime, loads, turns), 2u);
  EXPECT_EQ(pick(DispatchPolicy::kRoundRobin, loads, turns), 3u);
  EXPECT_EQ(pick(DispatchPolicy::kWeighted, loads, turns), 4u);
}

TEST(DispatchPolicy, RoundRobinSkipsWhoCannotTake) {
  const Loads loads = {{true}, {false}, {true}, {true}};
  EXPECT_EQ(picks(DispatchPolicy::kRoundRobin, loads, 6),
            (std::vector<std::uint32_t>{0, 2, 3, 0, 2, 3}));
}

TEST(DispatchPolicy, WeightedSharesBySpeedWhateverIsOutstanding) {
  const Loads loads = {{true, 5000, 9, 90.0}, {true, 0, 0, 90.0}, {true, 0, 0, 30.0}};
  std::vector<int> count(3);
  for (std::uint32_t worker : picks(DispatchPolicy::kWeighted, loads, 700)) ++count[worker];
  EXPECT_EQ(count, (std::vector<int>{300, 300, 100}));
}

TEST(DispatchPolicy, WeightedCountsTokensNotRequests) {
  const Loads loads = {{true, 0, 0, 10.0}, {true, 0, 0, 10.0}};
  DispatchTurns turns;
  take_turn(turns, loads, 0, 400);
  for (int i = 0; i < 4; ++i) {
    ASSERT_EQ(pick_worker(DispatchPolicy::kWeighted, loads, 100, turns), 1u) << i;
    take_turn(turns, loads, 1, 100);
  }
  EXPECT_EQ(pick_worker(DispatchPolicy::kWeighted, loads, 100, turns), 0u);
}

TEST(DispatchPolicy, TurnsTakenBeforeAnySpeedIsMeasuredDoNotOutlastIt) {
  Loads loads = {{true}, {true}};
  DispatchTurns turns;
  for (int i = 0; i < 3; ++i) take_turn(turns, loads, 0, 10);
  loads[0].speed = loads[1].speed = 1000.0;
  std::vector<int> count(2);
  for (int i = 0; i < 40; ++i) {
    const auto worker = pick_worker(DispatchPolicy::kWeighted, loads, 10, turns);
    take_turn(turns, loads, *worker, 10);
    ++count[*worker];
  }
  EXPECT_NEAR(count[0], 20, 3);
}

TEST(DispatchPolicy, WeightedSavesUpNoTurns) {
  Loads loads = {{true, 0, 0, 10.0}, {false, 0, 0, 10.0}};
  DispatchTurns turns;
  for (int i = 0; i < 50; ++i) take_turn(turns, loads, 0, 10);
  loads[1].can_take = true;  // back after a long time: it shares, it does not catch up
  std::vector<int> count(2);
  for (int i = 0; i < 40; ++i) {
    const auto worker = pick_worker(DispatchPolicy::kWeighted, loads, 10, turns);
    take_turn(turns, loads, *worker, 10);
    ++count[*worker];
  }
  EXPECT_NEAR(count[0], 20, 1);
}

TEST(DispatchPolicy, AWorkerNotMeasuredCountsWithTheMean) {
  const auto predicted = DispatchPolicy::kPredictedTime;
  EXPECT_EQ(pick(predicted, {{true, 0, 0, 40.0}, {true, 0, 0, 0.0}, {true, 0, 0, 20.0}}), 0u);
  EXPECT_EQ(pick(predicted, {{false, 0, 0, 40.0}, {true, 0, 0, 0.0}, {true, 0, 0, 20.0}}), 1u);
  // Nobody is measured: tokens decide.
  EXPECT_EQ(pick(predicted, {{true, 9, 0, 0.0}, {true, 8, 0, 0.0}}), 1u);
}

TEST(SpeedMeter, IsTokensASecondOfOneSequence) {
  SpeedMeter meter;
  EXPECT_EQ(meter.tokens_per_second(), 0.0);
  meter.start(kSecond);
  Nanos now = kSecond;
  for (int i = 0; i < 2000; ++i) meter.add(now += 10 * kMillisecond, 4, 4);
  EXPECT_NEAR(meter.tokens_per_second(), 100.0, 0.5);
  meter.start(now += 3600 * kSecond);  // idle time is not slowness
  meter.add(now += 10 * kMillisecond, 1, 1);
  EXPECT_NEAR(meter.tokens_per_second(), 100.0, 0.5);
  for (int i = 0; i < 2000; ++i) meter.add(now += 30 * kMillisecond, 2, 2);
  EXPECT_NEAR(meter.tokens_per_second(), 33.3, 1.0);  // it has become slower
}

}  // namespace
}  // namespace facet::core
