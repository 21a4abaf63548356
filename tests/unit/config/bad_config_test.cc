// What is refused, and with which words.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>

#include "common/config/byte_size.h"
#include "common/config/config.h"
#include "common/config/config_schema.h"

namespace facet {
namespace {

// The message, or "accepted".
std::string refusal(const std::string& text) {
  const Result<Config> config = parse_config(text, "facet.toml", "/etc");
  if (config) return "accepted";
  EXPECT_EQ(config.error().code, Code::kInvalidArgument);
  return config.error().message;
}

constexpr char kEcho[] = "worker.engine = \"echo\"\n";  // line 1: needs no model

std::string echo_refusal(const std::string& text) {
  return refusal(kEcho + text);
}

TEST(BadConfig, NamesFileLineKeyValueLimitAndReason) {
  EXPECT_EQ(refusal("[worker]\nengine = \"echo\"\n\n# more\ncount = 65\n"),
            "facet.toml:5: worker.count: 65 is not between 0 and 64 (no host has more GPUs)");
}

TEST(BadConfig, UnknownKeysAndTables) {
  EXPECT_EQ(echo_refusal("[worker.ecko]"), "facet.toml:2: worker.ecko: unknown table");
  EXPECT_EQ(echo_refusal("worker.cuont = 1"),
            "facet.toml:2: worker.cuont: unknown key; did you mean worker.count?");
  EXPECT_EQ(echo_refusal("broker.token_us = 1"),
            "facet.toml:2: broker.token_us: unknown key; did you mean worker.echo.token_us?");
  EXPECT_EQ(echo_refusal("broker.keepalive = 1"),
            "facet.toml:2: broker.keepalive: unknown key; did you mean broker.keepalive_ms?");
  EXPECT_EQ(echo_refusal("wholly = 1"), "facet.toml:2: wholly: unknown key");
  EXPECT_EQ(echo_refusal("\"\" = 1"), "facet.toml:2: : unknown key");
  EXPECT_EQ(echo_refusal("broker = 5"), "facet.toml:2: broker: is a table, not an integer");
  EXPECT_EQ(echo_refusal("[[ring]]"), "facet.toml:2: ring: is a table, not a list");
}

TEST(BadConfig, WrongTypes) {
  EXPECT_EQ(echo_refusal("worker.count = \"2\""),
            "facet.toml:2: worker.count: must be an integer, not a text");
  EXPECT_EQ(echo_refusal("worker.count = 2.0"),
            "facet.toml:2: worker.count: must be an integer, not a fraction");
  EXPECT_EQ(echo_refusal("worker.count = true"),
            "facet.toml:2: worker.count: must be an integer, not true or false");
  EXPECT_EQ(echo_refusal("worker.prefix_cache = 1"),
            "facet.toml:2: worker.prefix_cache: must be true or false, not an integer");
  EXPECT_EQ(echo_refusal("[worker.count]"),
            "facet.toml:2: worker.count: must be an integer, not a table");
  EXPECT_EQ(echo_refusal("log.file = 2024-01-01"),
            "facet.toml:2: log.file: must be a text, not a date or time");
  EXPECT_EQ(echo_refusal("ring.pixel_bytes = [1]"),
            "facet.toml:2: ring.pixel_bytes: must be a number of bytes or a size such as "
            "\"512MiB\", not a list");
  EXPECT_EQ(echo_refusal("worker.gpus = [1.5]"),
            "facet.toml:2: worker.gpus: must be a list of texts or indices, not a fraction");
  EXPECT_EQ(echo_refusal("model.dtype = \"int8\""),
            "facet.toml:2: model.dtype: \"int8\" is not one of \"auto\", \"fp32\", \"bf16\", "
            "\"fp16\"");
}

TEST(BadConfig, Sizes) {
  EXPECT_EQ(echo_refusal("ring.pixel_bytes = \"5 gigs\""),
            "facet.toml:2: ring.pixel_bytes: \"5 gigs\" is not a size such as \"512MiB\" or "
            "\"15GB\"");
  EXPECT_EQ(echo_refusal("ring.pixel_bytes = -1"),
            "facet.toml:2: ring.pixel_bytes: -1 is negative");
  EXPECT_EQ(echo_refusal("ring.pixel_bytes = 1048577"),
            "facet.toml:2: ring.pixel_bytes: 1048577B is not a multiple of 64KiB");
  EXPECT_EQ(echo_refusal("worker.device_max_memory = \"15GB 15G\""),
            "facet.toml:2: worker.device_max_memory: \"15G\" is not a size such as \"512MiB\" or "
            "\"15GB\"");
  EXPECT_EQ(echo_refusal("worker.device_max_memory = [\"15GB\", \"1MiB\"]"),
            "facet.toml:2: worker.device_max_memory: 1MiB is not between 16MiB and 4TiB (less "
            "holds no model, more has no device)");
}

TEST(BadConfig, EveryProblemIsListedInLineOrder) {
  const std::string all = refusal(
      "[worker]\nmax_lanes = 0\nengine = \"ecko\"\n[broker]\nkeepalive = 5\nmax_images = -1\n"
      "[ring]\ningest_bytes = 3\n");
  std::vector<int> lines;
  for (std::size_t at = 0; (at = all.find("facet.toml:", at)) != std::string::npos; ++at) {
    lines.push_back(std::atoi(all.c_str() + at + 11));
  }
  EXPECT_EQ(lines, (std::vector<int>{2, 3, 5, 6, 8})) << all;
}

TEST(BadConfig, SyntaxErrorsHaveALine) {
  EXPECT_EQ(refusal("[worker]\ncount = \n").substr(0, 13), "facet.toml:2:");
  EXPECT_EQ(refusal("[worker]\n\ncount = 1\ncount = 2\n").substr(0, 13), "facet.toml:4:");
  EXPECT_EQ(refusal("[worker\n").substr(0, 13), "facet.toml:1:");
  EXPECT_EQ(refusal("a = \"\xff\xfe\"").substr(0, 13), "facet.toml:1:");
  EXPECT_EQ(refusal(std::string("a = 1\0", 6)).substr(0, 13), "facet.toml:1:");
}

TEST(BadConfig, TablesWithoutANameAreRefused) {  // toml++ would end the process
  for (const char* text : {"[!]", "[=x]", "[\xc3\xb6]", "[\x01]", "[[!]]", "[.]", "[a.!]",
                           "a\xd1\x81.b = 1", "a.\xd1\x81 = 1"}) {
    EXPECT_EQ(refusal(text).substr(0, 13), "facet.toml:1:") << text;
  }
}

TEST(BadConfig, AProblemHasOneLine) {
  for (const char* text : {"a\n", "[a\n]", "\"x\\n\\u0001y\" = 1", "[\"a\\nb\"]\nc = 1"}) {
    const std::string all = refusal(text);
    std::size_t begin = 0;
    do {
      EXPECT_EQ(all.substr(begin, 11), "facet.toml:") << all;
      begin = all.find('\n', begin) + 1;
    } while (begin != 0);
    EXPECT_EQ(all.find('\1'), std::string::npos);
  }
}

TEST(BadConfig, NestingIsBounded) {  // toml++ would run out of stack
  std::string dots = "a";
  for (int i = 0; i < 300'000; ++i) dots += ".a";
  EXPECT_EQ(refusal("\n[" + dots + "]\n"),
            "facet.toml:2: a line of 600003 bytes; at most 4096 are read");
  EXPECT_EQ(refusal(dots + " = 1").substr(0, 13), "facet.toml:1:");
  // The deepest that a line allows, twice.
  const std::string most = dots.substr(0, 4093);
  EXPECT_EQ(refusal("[" + most + "]\n" + most + "=1\n").substr(0, 11), "facet.toml:");
}

TEST(BadConfig, KeysThatContradictEachOther) {
  EXPECT_EQ(refusal(""),
            "facet.toml: model.path: must name a model directory when worker.engine is \"model\"");
  EXPECT_EQ(echo_refusal("worker.max_lanes = 64\nworker.max_num_batched_tokens = 63"),
            "facet.toml:2: worker.max_lanes: 64 is above worker.max_num_batched_tokens (63)");
  EXPECT_EQ(echo_refusal("broker.max_tokens_default = 17000"),
            "facet.toml:2: broker.max_tokens_default: 17000 is above broker.max_tokens_limit "
            "(16384)");
  EXPECT_EQ(echo_refusal("supervisor.restart_backoff_ms = 61000"),
            "facet.toml:2: supervisor.restart_backoff_ms: 61000 is above "
            "supervisor.restart_backoff_max_ms (60000)");
  EXPECT_EQ(echo_refusal("worker.gpus = \"0,1\"\nworker.count = 3"),
            "facet.toml:3: worker.count: 3 workers for 2 GPUs; workers share no GPU");
  EXPECT_EQ(echo_refusal("worker.gpus = \"0,1,0\""),
            "facet.toml:2: worker.gpus: \"0\" twice; workers share no GPU");
  EXPECT_EQ(echo_refusal("worker.count = 3\nworker.device_max_memory = \"1GB 1GB\""),
            "facet.toml:3: worker.device_max_memory: 2 sizes for 3 workers; one for all, or one "
            "for each");
}

TEST(BadConfig, GpuNames) {
  for (const char* name : {"-1", "GPU-", "GPU-xyz", "cuda:0", "100", "0x1", "gpu-0",
                           "GPU-aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa0"}) {
    EXPECT_NE(echo_refusal("worker.gpus = [\"" + std::string(name) + "\"]").find(name),
              std::string::npos);
  }
}

TEST(BadConfig, LongPaths) {
  const std::string long_name = "/" + std::string(80, 'r');
  EXPECT_EQ(echo_refusal("broker.runtime_dir = \"" + long_name + "\"\nbroker.socket = \"/s\""),
            "facet.toml:2: broker.runtime_dir: 81 bytes, at most 80 (socket names in it must fit "
            "into 107 bytes)");
  EXPECT_EQ(echo_refusal("broker.socket = \"/" + std::string(106, 's') + "\""), "accepted");
  EXPECT_NE(echo_refusal("broker.socket = \"/" + std::string(107, 's') + "\""), "accepted");
  EXPECT_NE(echo_refusal("log.file = \"/" + std::string(4095, 's') + "\""), "accepted");
  EXPECT_EQ(echo_refusal("log.file = \"a\\u0000b\""),
            "facet.toml:2: log.file: holds a NUL character");
}

// Every integer and size: both ends are accepted, one beyond is not.
TEST(BadConfig, BoundsAreWhereTheTableSays) {
  Config config;
  // Keys that must not exceed another: the other is raised to its end first.
  const std::string raised = std::string(kEcho) +
                             "worker.max_num_batched_tokens = 131072\n"
                             "broker.max_tokens_limit = 131072\n"
                             "supervisor.restart_backoff_max_ms = 3600000\n";
  const auto accepted = [&](std::string_view key, const std::string& value) {
    std::string text;
    std::size_t begin = 0;
    for (std::size_t end; (end = raised.find('\n', begin)) != std::string::npos; begin = end + 1) {
      const std::string line = raised.substr(begin, end - begin);
      if (line.rfind(std::string(key) + " ", 0) != 0) text += line + "\n";
    }
    text +=
        "worker.max_lanes = 1\nbroker.max_tokens_default = 1\n"
        "supervisor.restart_backoff_ms = 1\n";
    if (const auto same = text.find(std::string(key) + " ="); same != std::string::npos) {
      text.erase(same, text.find('\n', same) + 1 - same);
    }
    return refusal(text + std::string(key) + " = " + value + "\n") == "accepted";
  };
  for (const ConfigKey& key : config_keys(config)) {
    if (const auto* number = std::get_if<IntKey>(&key.value)) {
      EXPECT_TRUE(accepted(key.name, std::to_string(number->min))) << key.name;
      EXPECT_TRUE(accepted(key.name, std::to_string(number->max))) << key.name;
      EXPECT_FALSE(accepted(key.name, std::to_string(number->min - 1))) << key.name;
      EXPECT_FALSE(accepted(key.name, std::to_string(number->max + 1))) << key.name;
      EXPECT_FALSE(accepted(key.name, "9223372036854775807")) << key.name;
      EXPECT_FALSE(accepted(key.name, "4294967297")) << key.name;  // 1 if cut to 32 bits
    } else if (const auto* bytes = std::get_if<BytesKey>(&key.value)) {
      EXPECT_TRUE(accepted(key.name, std::to_string(bytes->min))) << key.name;
      EXPECT_TRUE(accepted(key.name, std::to_string(bytes->max))) << key.name;
      EXPECT_FALSE(accepted(key.name, std::to_string(bytes->max + bytes->multiple))) << key.name;
      if (bytes->min > 0) {
        EXPECT_FALSE(accepted(key.name, std::to_string(bytes->min - bytes->multiple))) << key.name;
      }
    }
  }
}

TEST(BadConfig, FilesThatCannotBeRead) {
  EXPECT_EQ(load_config("/nowhere/facet.toml").error().code, Code::kNotFound);
  EXPECT_EQ(load_config("/nowhere/facet.toml").error().message,
            "cannot read /nowhere/facet.toml: No such file or directory");
  EXPECT_EQ(load_config("/tmp").error().code, Code::kIo);
  EXPECT_EQ(load_config("/dev/zero").error().code, Code::kInvalidArgument);
  EXPECT_EQ(load_config("").error().code, Code::kNotFound);
}

// Any damage to a good file is accepted or refused, with a line; never worse.
TEST(BadConfig, SurvivesDamage) {
  std::ifstream file(FACET_SOURCE_DIR "/configs/facet.toml");
  const std::string good((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  std::mt19937 random(20);
  for (int i = 0; i < 500; ++i) {
    std::string bad = good;
    for (unsigned edit = 0; edit < 1 + random() % 4; ++edit) {
      const std::size_t at = random() % bad.size();
      switch (random() % 3) {
        case 0:
          bad[at] = static_cast<char>(random());
          break;
        case 1:
          bad.erase(at, random() % 40);
          break;
        default:
          bad.insert(at, bad.substr(random() % bad.size(), 30));
          break;
      }
    }
    const Result<Config> config = parse_config(bad, "f", "/etc");
    if (!config) {
      EXPECT_EQ(config.error().message.substr(0, 1), "f") << i;
    }
  }
}

}  // namespace
}  // namespace facet
