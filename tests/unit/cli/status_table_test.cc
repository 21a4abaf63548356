#include "broker/cli/status_table.h"

#include <gtest/gtest.h>

#include "broker/cli/daemon_session.h"
#include "broker/cli/operator_commands.h"
#include "broker/cli/top_command.h"

namespace facet {
namespace {

constexpr char kStatus[] = R"({"version":"0.1.0","pid":5,"socket":"/run/facet/facet.sock",
 "uptime_s":12.345,"draining":true,"conservation":"pixels: 3 pages are nobody's","decoder_up":false,
 "requests":{"queued_interactive":1,"queued_batch":2,"running":3,"completions_per_second":4.56,
  "tokens_per_second":340.2,"eta_ms":7300},"config_generation":3,
 "users":[{"user":1001,"requests":4,"queued":2,"ingest_bytes":1024,"ledger_bytes":0},{"user":7},8],
 "clients":{"connections":2},
 "workers":[{"index":0,"state":"ready","pid":6,"model":"demo","credits":32,"outstanding":3,
  "running":3,"kv_blocks_free":25,"kv_blocks_total":100,"finished":9,"tokens":99,"deaths":1},
  {"index":1,"state":"disabled","exit_code":72,"credits":32}],
 "ring":{"ingest":{"pages":2048,"used":16,"high_mark":32,"largest_free_run":2000,"slots":3,
  "page_bytes":65536}},
 "ledger":{"max_records":4096,"records":7,"pages":10,"used":1,"page_bytes":4096}})";

TEST(StatusTable, ShowsWhatMatters) {
  const auto table = status_table(kStatus);
  ASSERT_TRUE(table) << table.error().message;
  for (const char* part : {"/run/facet/facet.sock", "up 12.3 s, configuration 3, draining",
                           "Queue: 1 interactive, 2 batch; running 3",
                           "4.6 answers/s, 340.2 tokens/s; a new one waits about 7 s", "1001  4",
                           "(the decoder is down)", "ready", "disabled", "75%", "1.0 MiB",
                           "128.0 MiB", "7 of 4096", "LEAK: pixels: 3 pages are nobody's"}) {
    EXPECT_NE(table->find(part), std::string::npos) << part << "\n" << *table;
  }
}

TEST(TopRates, AreDifferencesOfTwoLooksAtOneBroker) {
  const std::string before =
      R"({"epoch":1,"counters":{"accepted":10,"dispatches":10,"tokens":100}})";
  const std::string after =
      R"({"epoch":1,"counters":{"accepted":15,"dispatches":12,"tokens":400}})";
  EXPECT_EQ(rates_text(before, after, 2 * kSecond),
            "2.5 accepted/s, 1.0 dispatches/s, 150 tokens/s");
  const std::string other = R"({"epoch":2,"counters":{"accepted":1}})";
  EXPECT_EQ(rates_text(before, other, kSecond), "");
  for (const char* strange : {"", "7", "{}", R"({"epoch":1})", R"({"epoch":1,"counters":3})"}) {
    EXPECT_EQ(rates_text(before, strange, kSecond), "");
    EXPECT_EQ(rates_text(strange, after, kSecond), "");
  }
  EXPECT_EQ(rates_text(before, after, 0), "");
}

TEST(Durations, AreRead) {
  EXPECT_EQ(parse_duration_ms("90"), 90'000u);
  EXPECT_EQ(parse_duration_ms("90s"), 90'000u);
  EXPECT_EQ(parse_duration_ms("250ms"), 250u);
  EXPECT_EQ(parse_duration_ms("5m"), 300'000u);
  EXPECT_EQ(parse_duration_ms("24h"), 86'400'000u);
  EXPECT_EQ(parse_duration_ms("0"), 0u);
  for (const char* wrong : {"", "s", "-1", "1d", "1.5s", "25h", "99999999999999999999", "1 s"}) {
    EXPECT_FALSE(parse_duration_ms(wrong)) << wrong;
  }
}

TEST(StatusTable, MissingAndStrangeFieldsDoNoHarm) {
  for (const char* json :
       {"{}", "{\"workers\":7}", "{\"workers\":[7,{}],\"ring\":[],\"requests\":null}",
        "{\"version\":[1],\"ledger\":\"x\"}"}) {
    const auto table = status_table(json);
    ASSERT_TRUE(table) << json;
    EXPECT_NE(table->find("Queue: - interactive"), std::string::npos);
  }
  EXPECT_FALSE(status_table("[]"));
  EXPECT_FALSE(status_table("nonsense"));
}

TEST(ServerFacts, ComeFromReadyWorkers) {
  const auto facts = parse_facts(kStatus);
  ASSERT_TRUE(facts);
  EXPECT_EQ(facts->model, "demo");
  EXPECT_EQ(facts->capacity, 32u);
  EXPECT_FALSE(facts->is_hopeless);
  const auto hopeless =
      parse_facts(R"({"workers":[{"index":3,"state":"disabled","exit_code":72}]})");
  EXPECT_TRUE(hopeless->is_hopeless);
  EXPECT_EQ(hopeless->trouble, "worker 3 is disabled (exit code 72)");
  EXPECT_FALSE(parse_facts(R"({"workers":[]})")->is_hopeless);
  EXPECT_FALSE(parse_facts("{}"));
  EXPECT_FALSE(parse_facts(R"({"workers":[{"state":7}]})"));
}

TEST(HumanBytes, KeepsThreeDigitsOrSo) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1536), "1.5 KiB");
  EXPECT_EQ(human_bytes(15e9), "14.0 GiB");
}

}  // namespace
}  // namespace facet
