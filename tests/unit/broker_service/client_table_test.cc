#include "broker/service/client_table.h"

#include <gtest/gtest.h>

namespace facet {
namespace {

TEST(ClientTable, SameIdentitySameTokenUntilRemoved) {
  ClientTable table(4, kSecond);
  const auto first = table.find_or_add("a", 0);
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(table.find_or_add("a", 1)->token, first->token);
  EXPECT_NE(table.find_or_add("b", 1)->token, first->token);
  ASSERT_NE(table.identity(first->token), nullptr);
  EXPECT_EQ(*table.identity(first->token), "a");
  table.remove(first->token);
  EXPECT_EQ(table.identity(first->token), nullptr);
  EXPECT_NE(table.find_or_add("a", 2)->token, first->token);  // tokens are never used twice
  EXPECT_EQ(table.size(), 2u);
}

TEST(ClientTable, FullTableGivesUpOnlyTheStale) {
  ClientTable table(2, 3 * kSecond);
  const auto a = table.find_or_add("a", 0);
  const auto b = table.find_or_add("b", 1 * kSecond);
  EXPECT_FALSE(table.find_or_add("c", 2 * kSecond).has_value());
  table.touch(a->token, 3 * kSecond);
  const auto c = table.find_or_add("c", 5 * kSecond);
  ASSERT_TRUE(c.has_value());
  EXPECT_EQ(c->replaced, b->token);
  EXPECT_EQ(table.size(), 2u);
  EXPECT_FALSE(table.find_or_add("b", 5 * kSecond).has_value());
}

}  // namespace
}  // namespace facet
