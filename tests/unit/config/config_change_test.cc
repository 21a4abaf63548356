#include "common/config/config_change.h"

#include <gtest/gtest.h>

#include <map>

#include "common/config/config_schema.h"

namespace facet {
namespace {

TEST(ConfigChange, NothingDiffersFromItself) {
  EXPECT_TRUE(config_changes(Config{}, Config{}).empty());
}

TEST(ConfigChange, EveryKeyThatDiffersIsNamedWithBothValues) {
  Config after;
  after.worker.max_lanes = 32;
  after.broker.max_image_bytes = 1 << 20;
  after.log.level = LogLevel::kDebug;
  const auto changes = config_changes(Config{}, after);
  ASSERT_EQ(changes.size(), 3u);
  EXPECT_EQ(changes[0].text(), "worker.max_lanes: 16 -> 32");
  EXPECT_EQ(changes[0].applies, Applies::kRestart);
  EXPECT_EQ(changes[1].text(), "broker.max_image_bytes: \"32MiB\" -> \"1MiB\"");
  EXPECT_EQ(changes[1].applies, Applies::kLive);
  EXPECT_EQ(changes[2].text(), "log.level: \"info\" -> \"debug\"");
}

TEST(ConfigChange, WhatIsLaidOutAtTheStartStays) {
  for (const char* key :
       {"model.path", "model.dtype", "worker.engine", "worker.count", "worker.gpus",
        "worker.max_model_len", "broker.runtime_dir", "broker.socket", "ring.ingest_bytes",
        "ring.pixel_bytes", "ledger.bytes", "ledger.max_records", "log.file"}) {
    EXPECT_EQ(applies(key), Applies::kDaemon) << key;
  }
  EXPECT_EQ(applies("unheard.of"), Applies::kDaemon) << "the safe choice";
}

TEST(ConfigChange, EveryKeyBelongsToASectionWithARule) {
  Config config;
  std::map<Applies, int> count;
  for (const ConfigKey& key : config_keys(config)) ++count[applies(key.name)];
  EXPECT_GE(count[Applies::kLive], 20);
  EXPECT_EQ(count[Applies::kDecoder], 3);
  EXPECT_GE(count[Applies::kRestart], 9);
  EXPECT_EQ(count[Applies::kDaemon], 13);
}

}  // namespace
}  // namespace facet
