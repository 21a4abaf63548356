#include "broker/cli/status_table.h"

#include <gtest/gtest.h>

#include "broker/cli/daemon_session.h"

namespace facet {
namespace {

constexpr char kStatus[] = R"({"version":"0.1.0","pid":5,"socket":"/run/facet/facet.sock",
 "uptime_s":12.345,"draining":true,"conservation":"pixels: 3 pages are nobody's","decoder_up":false,
 "requests":{"queued_interactive":1,"queued_batch":2,"running":3,"completions_per_second":4.56},
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
  for (const char* part :
       {"/run/facet/facet.sock", "up 12.3 s, draining", "Queue: 1 interactive, 2 batch; running 3",
        "4.6 answers/s", "(the decoder is down)", "ready", "disabled", "75%", "1.0 MiB",
        "128.0 MiB", "7 of 4096", "LEAK: pixels: 3 pages are nobody's"}) {
    EXPECT_NE(table->find(part), std::string::npos) << part << "\n" << *table;
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
