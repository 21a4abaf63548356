#include "broker/service/client_table.h"

#include <gtest/gtest.h>

namespace facet {
namespace {

TEST(ClientTable, SameIdentitySameTokenUntilRemoved) {
  ClientTable table(4, 4, kSecond);
  const auto first = table.find_or_add("a", 7, 0);
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(table.find_or_add("a", 7, 1)->token, first->token);
  EXPECT_NE(table.find_or_add("b", 7, 1)->token, first->token);
  ASSERT_NE(table.identity(first->token), nullptr);
  EXPECT_EQ(*table.identity(first->token), "a");
  table.remove(first->token);
  EXPECT_EQ(table.identity(first->token), nullptr);
  EXPECT_NE(table.find_or_add("a", 7, 2)->token, first->token);  // tokens are never used twice
  EXPECT_EQ(table.size(), 2u);
}

TEST(ClientTable, FullTableGivesUpOnlyTheStale) {
  ClientTable table(2, 2, 3 * kSecond);
  const auto a = table.find_or_add("a", 7, 0);
  const auto b = table.find_or_add("b", 7, 1 * kSecond);
  EXPECT_FALSE(table.find_or_add("c", 7, 2 * kSecond).has_value());
  table.touch(a->token, 3 * kSecond);
  const auto c = table.find_or_add("c", 7, 5 * kSecond);
  ASSERT_TRUE(c.has_value());
  EXPECT_EQ(c->replaced, b->token);
  EXPECT_EQ(table.size(), 2u);
  EXPECT_FALSE(table.find_or_add("b", 7, 5 * kSecond).has_value());
}

TEST(ClientTable, OneUserHasItsPartAndNoMore) {
  ClientTable table(4, 2, 3 * kSecond);
  const auto a = table.find_or_add("a", 7, 0);
  ASSERT_TRUE(table.find_or_add("b", 7, 1 * kSecond).has_value());
  const auto third = table.find_or_add("c", 7, 2 * kSecond);
  ASSERT_FALSE(third.has_value());
  EXPECT_EQ(third.error().message, "user 7 has 2 clients; the limit of one user is 2");
  ASSERT_TRUE(table.find_or_add("c", 8, 2 * kSecond).has_value());
  ASSERT_TRUE(table.find_or_add("d", 9, 2 * kSecond).has_value());
  const auto full = table.find_or_add("e", 10, 2 * kSecond);
  ASSERT_FALSE(full.has_value());
  EXPECT_EQ(full.error().message, "4 clients are here; the limit is 4");
  // Its own stale one makes room, nobody else's.
  const auto later = table.find_or_add("f", 7, 3 * kSecond);
  ASSERT_TRUE(later.has_value());
  EXPECT_EQ(later->replaced, a->token);
}

TEST(ClientTable, AnIdentityOfAnotherUserIsAnotherClient) {
  ClientTable table(4, 4, kSecond);
  const auto first = table.find_or_add("a", 7, 0);
  const auto other = table.find_or_add("a", 8, 0);
  ASSERT_TRUE(other.has_value());
  EXPECT_NE(other->token, first->token);
  EXPECT_EQ(other->replaced, first->token);
  EXPECT_EQ(table.size(), 1u);
}

}  // namespace
}  // namespace facet
