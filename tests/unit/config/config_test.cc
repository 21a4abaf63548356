// What a good file becomes.
#include "common/config/config.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "common/config/config_schema.h"
#include "common/config/toml_reader.h"

namespace facet {
namespace {

namespace fs = std::filesystem;

const std::string kShipped = FACET_SOURCE_DIR "/configs/facet.toml";

std::string text_of(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

Config parse_ok(const std::string& text, const std::string& folder = "/etc/facet") {
  Result<Config> config = parse_config("worker.engine = \"echo\"\n" + text, "f.toml", folder);
  EXPECT_TRUE(config) << config.error().message;
  return config ? *config : Config{};
}

TEST(Config, ShippedFileHoldsEveryKeyWithItsDefault) {
  Result<Config> shipped = load_config(kShipped);
  ASSERT_TRUE(shipped) << shipped.error().message;
  EXPECT_EQ(shipped->model.path, FACET_SOURCE_DIR "/configs/demo-model");

  Config plain;
  const ReadConfig read = read_toml(text_of(kShipped));
  for (const ConfigKey& key : config_keys(plain)) {
    EXPECT_TRUE(read.lines.count(std::string(key.name))) << key.name << " is not in facet.toml";
  }
  Config expected;
  expected.model.path = read.config.model.path;  // the one key without a default
  EXPECT_EQ(read.config, expected);
}

TEST(Config, ShippedFileCommentsEveryKey) {
  std::istringstream lines(text_of(kShipped));
  std::string line, previous;
  int run = 0;  // keys below one comment; four of one kind may share it
  while (std::getline(lines, line)) {
    const bool is_key = line.find(" = ") != std::string::npos && line[0] != '#';
    run = is_key ? run + 1 : 0;
    EXPECT_LE(run, 4) << line;
    if (run == 1) {
      EXPECT_EQ(previous.substr(0, 1), "#") << line;
    }
    previous = line;
  }
}

TEST(Config, EmptyTextGivesTheDefaults) {
  const Config config = parse_ok("");
  Config expected;
  expected.worker.engine = EngineKind::kEcho;
  expected.broker.runtime_dir = default_runtime_dir();
  expected.broker.socket = default_socket_path();
  EXPECT_EQ(config, expected);
}

TEST(Config, DefaultsAgreeWithEachOther) {
  const Config c;
  EXPECT_EQ(c.worker.credits, 2 * c.worker.max_lanes);
  // The largest image fits into the quarter of a ring that one request may take.
  EXPECT_GE(c.ring.ingest_bytes / 4, c.broker.max_image_bytes);
  EXPECT_GE(c.ring.pixel_bytes / 4, 3 * static_cast<std::uint64_t>(c.broker.max_image_pixels));
  // The ledger has room for the whole queue and as many finished requests again.
  EXPECT_GE(c.ledger.max_records, 2 * c.broker.max_queued_requests);
}

TEST(Config, DescriptionReadsBackEqual) {
  Config config = parse_ok("");
  ASSERT_EQ(*parse_config(describe(config), "f", "/elsewhere"), config);
  config.model.path = "/a \"strange\" path\\with\ttabs/and-\u00e4";
  config.worker.gpus = {"0", "GPU-6d2a1f00-1111-2222-3333-444455556666"};
  config.worker.device_max_memory_bytes = {15'000'000'000, 16'000'000'001};
  config.worker.credits = 5;
  config.ring.pixel_bytes = 1 << 20;
  config.model.dtype = Dtype::kFp16;
  config.log.level = LogLevel::kError;
  config.broker.dispatch = DispatchPolicy::kPredictedTime;
  const Result<Config> again = parse_config(describe(config), "f", "/elsewhere");
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(*again, config);
}

TEST(Config, DeviceMemoryIsOneTextOrAList) {
  using Sizes = std::vector<std::uint64_t>;
  const auto sizes = [](const std::string& value) {
    return parse_ok("worker.device_max_memory = " + value).worker.device_max_memory_bytes;
  };
  EXPECT_EQ(sizes("\"15GB 15GB\""), (Sizes{15'000'000'000, 15'000'000'000}));
  EXPECT_EQ(sizes("[\"15GB\", \"16GiB\"]"), (Sizes{15'000'000'000, 16ull << 30}));
  EXPECT_EQ(sizes("[15000000000]"), (Sizes{15'000'000'000}));
  EXPECT_EQ(sizes("1073741824"), (Sizes{1 << 30}));
  EXPECT_EQ(sizes("\"\""), Sizes{});
  EXPECT_EQ(sizes("[]"), Sizes{});
}

TEST(Config, GpusAreOneTextOrAList) {
  using Names = std::vector<std::string>;
  const auto gpus = [](const std::string& value) {
    return parse_ok("worker.gpus = " + value).worker.gpus;
  };
  EXPECT_EQ(gpus("\"0,1\""), (Names{"0", "1"}));
  EXPECT_EQ(gpus("\"0 , 7\""), (Names{"0", "7"}));
  EXPECT_EQ(gpus("[1, \"GPU-ab12\"]"), (Names{"1", "GPU-ab12"}));
  EXPECT_EQ(gpus("3"), (Names{"3"}));
  EXPECT_EQ(gpus("\"\""), Names{});
}

TEST(Config, SizesAreIntegersOrTexts) {
  EXPECT_EQ(parse_ok("ring.pixel_bytes = 1048576").ring.pixel_bytes, 1u << 20);
  EXPECT_EQ(parse_ok("ring.pixel_bytes = \"1MiB\"").ring.pixel_bytes, 1u << 20);
}

TEST(Config, CreditsFollowTheLanesUnlessGiven) {
  EXPECT_EQ(parse_ok("worker.max_lanes = 4").worker.credits, 8);
  EXPECT_EQ(parse_ok("worker.max_lanes = 4\nworker.credits = 3").worker.credits, 3);
}

TEST(Config, RelativePathsAreTakenFromTheFilesFolder) {
  const Config config = parse_ok(
      "model.path = \"../models/a/\"\nlog.file = \"facet.log\"\nbroker.runtime_dir = \"run\"",
      "/etc/facet");
  EXPECT_EQ(config.model.path, "/etc/models/a");
  EXPECT_EQ(config.log.file, "/etc/facet/facet.log");
  EXPECT_EQ(config.broker.runtime_dir, "/etc/facet/run");
  EXPECT_EQ(config.broker.socket, "/etc/facet/run/facet.sock");
  EXPECT_EQ(parse_ok("model.path = \"/m\"").model.path, "/m");
}

TEST(Config, FilesFolderIsFoundFromARelativePath) {
  char folder[] = "/tmp/facet-config-test-XXXXXX";
  ASSERT_NE(mkdtemp(folder), nullptr);
  const fs::path before = fs::current_path();
  std::ofstream(std::string(folder) + "/c.toml") << "model.path = \"m\"\n";
  fs::current_path(folder);
  const Result<Config> config = load_config("c.toml");
  fs::current_path(before);
  fs::remove_all(folder);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->model.path, std::string(folder) + "/m");
}

TEST(Config, RuntimeDirFollowsTheEnvironment) {
  setenv("RUNTIME_DIRECTORY", "/run/other:/run/second", 1);
  EXPECT_EQ(default_socket_path(), "/run/other/facet.sock");
  EXPECT_EQ(parse_ok("").broker.socket, "/run/other/facet.sock");
  unsetenv("RUNTIME_DIRECTORY");
  if (geteuid() == 0) {
    EXPECT_EQ(default_runtime_dir(), "/run/facet");
  } else {
    setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
    EXPECT_EQ(default_runtime_dir(), "/run/user/7/facet");
  }
}

TEST(Config, ThreadsAreSharedEqually) {
  WorkerConfig worker;
  EXPECT_EQ(threads_per_worker(worker, 1, 2), 2);
  EXPECT_EQ(threads_per_worker(worker, 3, 2), 1);
  EXPECT_EQ(threads_per_worker(worker, 0, 2), 2);
  worker.threads = 5;
  EXPECT_EQ(threads_per_worker(worker, 3, 2), 5);
}

}  // namespace
}  // namespace facet
