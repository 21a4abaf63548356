// A new configuration while facetd runs: all of it or nothing.
#include "broker/supervisor/config_reload.h"

#include <gtest/gtest.h>

namespace facet {
namespace {

class Reload : public testing::Test {
 protected:
  ConfigReload make() {
    return ConfigReload(Config{}, {.read = [this] { return file; },
                                   .publish = [this](const Config& next) -> Status {
                                     if (is_disk_full) return Error(Code::kIo, "disk full");
                                     published.push_back(next);
                                     return {};
                                   },
                                   .rules =
                                       [](const Config& next) {
                                         SupervisorRules rules;
                                         rules.drain = next.supervisor.drain_ms * kMillisecond;
                                         return rules;
                                       }});
  }

  Result<Config> file = Config{};
  std::vector<Config> published;
  bool is_disk_full = false;
  ConfigReload reload = make();
};

using Scope = ConfigReload::Scope;

TEST_F(Reload, OfTheSameChangesNothing) {
  const auto outcome = reload.reload(Scope::kLive);
  EXPECT_TRUE(outcome.is_good);
  EXPECT_FALSE(outcome.event);
  EXPECT_TRUE(published.empty());
  EXPECT_EQ(outcome.lines, std::vector<std::string>{"no change: configuration 1 stays in effect"});
}

TEST_F(Reload, PutsLiveKeysInEffectAndTellsThem) {
  Config changed;
  changed.supervisor.drain_ms = 7000;
  changed.broker.max_queued_requests = 9;
  file = changed;
  const auto outcome = reload.reload(Scope::kLive);
  ASSERT_TRUE(outcome.event);
  EXPECT_EQ(outcome.event->generation, 2u);
  EXPECT_EQ(outcome.event->rules.drain, 7 * kSecond);
  EXPECT_FALSE(outcome.event->has_new_decoder);
  ASSERT_EQ(published.size(), 1u);
  EXPECT_EQ(published[0], changed);
  EXPECT_EQ(outcome.lines.size(), 3u);
  EXPECT_EQ(outcome.lines[0], "broker.max_queued_requests: 1024 -> 9");
  EXPECT_EQ(outcome.lines[2], "configuration 2 is in effect");
}

TEST_F(Reload, OfWhatCannotChangeAppliesNothingAndNamesAllOfIt) {
  Config changed;
  changed.ring.pixel_bytes = 64 << 20;
  changed.worker.max_lanes = 2;
  changed.broker.max_queued_requests = 9;
  file = changed;
  const auto outcome = reload.reload(Scope::kLive);
  EXPECT_FALSE(outcome.is_good);
  EXPECT_FALSE(outcome.event);
  EXPECT_TRUE(published.empty());
  EXPECT_EQ(reload.in_effect(), Config{});
  ASSERT_EQ(outcome.lines.size(), 3u);
  EXPECT_NE(outcome.lines[0].find("facet restart --rolling"), std::string::npos);
  EXPECT_NE(outcome.lines[1].find("ring.pixel_bytes"), std::string::npos);
  EXPECT_NE(outcome.lines[1].find("restart of the daemon"), std::string::npos);
}

TEST_F(Reload, OfABadFileTellsEveryProblemOnALine) {
  file = Error(Code::kInvalidArgument, "a:1: x\na:2: y");
  const auto outcome = reload.reload(Scope::kRestart);
  EXPECT_FALSE(outcome.is_good);
  EXPECT_EQ(outcome.lines,
            (std::vector<std::string>{"a:1: x", "a:2: y", "refused: nothing has changed"}));
}

TEST_F(Reload, ForARestartIsTakenBackOnce) {
  Config live;
  live.broker.max_queued_requests = 9;
  file = live;
  ASSERT_TRUE(reload.reload(Scope::kLive).event);
  Config changed = live;
  changed.worker.max_lanes = 2;
  changed.decoder.processes = 3;
  file = changed;
  const auto outcome = reload.reload(Scope::kRestart);
  ASSERT_TRUE(outcome.event);
  EXPECT_TRUE(outcome.event->has_new_decoder);
  const auto back = reload.restore();
  ASSERT_TRUE(back);
  EXPECT_EQ(back->generation, 4u);
  EXPECT_TRUE(back->has_new_decoder);
  EXPECT_EQ(published.back(), live) << "what was live before it stays";
  EXPECT_FALSE(reload.restore());
  file = live;
  EXPECT_TRUE(reload.reload(Scope::kRestart).is_good);
  EXPECT_FALSE(reload.restore()) << "this restart changed nothing";
}

TEST_F(Reload, ThatCannotBeWrittenIsNone) {
  Config changed;
  changed.broker.max_queued_requests = 9;
  file = changed;
  is_disk_full = true;
  EXPECT_FALSE(reload.reload(Scope::kLive).is_good);
  EXPECT_EQ(reload.in_effect(), Config{});
  is_disk_full = false;
  const auto outcome = reload.reload(Scope::kLive);
  ASSERT_TRUE(outcome.event);
  EXPECT_EQ(outcome.event->generation, 2u);
}

}  // namespace
}  // namespace facet
