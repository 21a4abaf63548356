#include "broker/cli/model_commands.h"

#include <gtest/gtest.h>

namespace facet {
namespace {

TEST(PlanTable, NamesEveryByte) {
  const std::string table = plan_table(R"({"model":"demo","dtype":"fp32","budget_bytes":1073741824,
    "parts":[{"name":"weights","bytes":23068672},{"name":"KV pool","bytes":1000000000}],
    "kv":{"block_tokens":16,"block_bytes":4096},"fits":true})");
  for (const char* part : {"model                            demo", "1073741824  1.0 GiB",
                           "  weights", "23068672  22.0 MiB", "  block tokens", "fits", "yes"}) {
    EXPECT_NE(table.find(part), std::string::npos) << part << "\n" << table;
  }
}

TEST(PlanTable, WhatIsNoJsonIsShownAsItIs) {
  EXPECT_EQ(plan_table("oops"), "oops");
}

}  // namespace
}  // namespace facet
