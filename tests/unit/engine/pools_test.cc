#include <gtest/gtest.h>

#include <random>

#include "worker/engine/block_pool.h"
#include "worker/engine/row_pool.h"

namespace facet {
namespace {

TEST(BlockPool, TakesAllOrNothing) {
  BlockPool pool(4, 16);
  std::vector<std::int32_t> blocks;
  EXPECT_FALSE(pool.acquire(5, blocks));
  EXPECT_TRUE(blocks.empty());
  EXPECT_TRUE(pool.acquire(4, blocks));
  EXPECT_FALSE(pool.acquire(1, blocks));
  pool.release(blocks);
  EXPECT_TRUE(blocks.empty());
  EXPECT_EQ(pool.num_available(), 4);
  EXPECT_EQ(pool.blocks_for(0), 0);
  EXPECT_EQ(pool.blocks_for(16), 1);
  EXPECT_EQ(pool.blocks_for(17), 2);
}

std::vector<ContentKey> keys(std::initializer_list<std::uint64_t> names) {
  std::vector<ContentKey> out;
  for (const std::uint64_t name : names) out.push_back({name, name});
  return out;
}

TEST(BlockPool, RememberedBlocksAreSharedAndStayCached) {
  BlockPool pool(4, 16);
  std::vector<std::int32_t> first;
  ASSERT_TRUE(pool.acquire(3, first));
  const std::vector<std::int32_t> before = first;
  const auto names = keys({1, 2, 3});
  pool.remember(first[0], names[0]);
  pool.remember(first[1], names[1]);
  std::vector<std::int32_t> second;
  pool.adopt(names, second);  // as far as it is known
  EXPECT_EQ(second, (std::vector<std::int32_t>{before[0], before[1]}));
  const std::vector<std::int32_t>* tables[] = {&first, &second};
  EXPECT_TRUE(pool.check(tables));
  pool.release(first);
  EXPECT_EQ(pool.num_available(), 2);  // the unnamed one and the one never taken
  EXPECT_EQ(pool.num_cached(), 0);
  pool.release(second);
  EXPECT_EQ(pool.num_available(), 4);
  EXPECT_EQ(pool.num_cached(), 2);
  EXPECT_TRUE(pool.check({}));
  pool.adopt(keys({9, 1}), second);  // a prefix begins at the first block
  EXPECT_TRUE(second.empty());
  pool.adopt(names, second);
  EXPECT_EQ(second.size(), 2u);
  EXPECT_EQ(pool.num_cached(), 0);
}

TEST(BlockPool, TheEndOfTheOldestPrefixGoesFirst) {
  BlockPool pool(4, 16);
  std::vector<std::int32_t> older, newer;
  ASSERT_TRUE(pool.acquire(2, older));
  ASSERT_TRUE(pool.acquire(2, newer));
  for (std::size_t i = 0; i < 2; ++i) {
    pool.remember(older[i], keys({1, 2})[i]);
    pool.remember(newer[i], keys({11, 12})[i]);
  }
  const std::vector<std::int32_t> blocks{older[1], older[0], newer[1], newer[0]};
  pool.release(older);
  pool.release(newer);
  std::vector<std::int32_t> taken;
  ASSERT_TRUE(pool.acquire(4, taken));
  EXPECT_EQ(taken, blocks);
  std::vector<std::int32_t> gone;
  pool.adopt(keys({1, 2}), gone);
  EXPECT_TRUE(gone.empty());
}

TEST(BlockPool, ForgottenContentIsNotUsedAgain) {
  BlockPool pool(4, 16);
  std::vector<std::int32_t> held, cached;
  ASSERT_TRUE(pool.acquire(1, held));
  ASSERT_TRUE(pool.acquire(1, cached));
  pool.remember(held[0], keys({1})[0]);
  pool.remember(cached[0], keys({2})[0]);
  pool.release(cached);
  pool.forget(keys({1, 2, 3}));
  EXPECT_EQ(pool.num_cached(), 0);
  EXPECT_EQ(pool.num_available(), 3);
  pool.adopt(keys({1}), cached);
  pool.adopt(keys({2}), cached);
  EXPECT_TRUE(cached.empty());
  const std::vector<std::int32_t>* tables[] = {&held};
  EXPECT_TRUE(pool.check(tables));
}

TEST(BlockPool, TheSecondBlockOfAKeyIsNotCached) {
  BlockPool pool(4, 16);
  std::vector<std::int32_t> first, second;
  ASSERT_TRUE(pool.acquire(1, first));
  ASSERT_TRUE(pool.acquire(1, second));
  pool.remember(first[0], keys({1})[0]);
  pool.remember(second[0], keys({1})[0]);
  pool.release(first);
  pool.release(second);
  EXPECT_EQ(pool.num_cached(), 1);
  EXPECT_TRUE(pool.check({}));
}

TEST(BlockPool, CheckFindsALeakAndAStranger) {
  BlockPool pool(4, 16);
  std::vector<std::int32_t> held;
  ASSERT_TRUE(pool.acquire(2, held));
  EXPECT_FALSE(pool.check({}));
  const std::vector<std::int32_t> stranger{3, 2};
  const std::vector<std::int32_t>* tables[] = {&held, &stranger};
  EXPECT_FALSE(pool.check(tables));
}

TEST(BlockPoolDeathTest, ReleasingTwiceAborts) {
  BlockPool pool(4, 16);
  std::vector<std::int32_t> held;
  ASSERT_TRUE(pool.acquire(1, held));
  std::vector<std::int32_t> copy = held;
  pool.release(held);
  EXPECT_DEATH(pool.release(copy), "references > 0");
}

TEST(RowPool, RunsNeverOverlap) {
  for (std::uint32_t seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    RowPool pool(50);
    std::vector<int> owner(50, 0);
    std::vector<std::pair<std::int32_t, std::int32_t>> runs;
    for (int i = 1; i < 500; ++i) {
      if (random() % 2 == 0 && !runs.empty()) {
        const auto [first, count] = runs.back();
        runs.pop_back();
        pool.release(first);
        for (std::int32_t row = first; row < first + count; ++row)
          owner[static_cast<std::size_t>(row)] = 0;
        continue;
      }
      const auto count = static_cast<std::int32_t>(random() % 20 + 1);
      const auto first = pool.acquire(count, {});
      if (!first) continue;
      ASSERT_LE(*first + count, 50);
      for (std::int32_t row = *first; row < *first + count; ++row) {
        ASSERT_EQ(owner[static_cast<std::size_t>(row)], 0) << "seed " << seed;
        owner[static_cast<std::size_t>(row)] = i;
      }
      runs.insert(runs.begin() + static_cast<std::ptrdiff_t>(random() % (runs.size() + 1)),
                  {*first, count});
    }
    for (const auto& [first, count] : runs) pool.release(first);
    EXPECT_TRUE(pool.check_not_held());
  }
}

TEST(RowPool, AFreePoolTakesItsWholeSize) {
  RowPool pool(10);
  EXPECT_FALSE(pool.acquire(11, {}));
  const auto first = pool.acquire(10, {});
  ASSERT_TRUE(first);
  EXPECT_FALSE(pool.acquire(1, {}));
  EXPECT_FALSE(pool.check_not_held());
}

TEST(RowPool, FilledRunsStayUntilTheirRoomIsNeeded) {
  RowPool pool(10);
  const auto names = keys({1, 2, 3});
  const auto first = pool.acquire(4, names[0]);
  EXPECT_EQ(pool.acquire(4, names[0]), first);  // shared before it is filled
  EXPECT_FALSE(pool.is_filled(*first));
  pool.set_filled(*first);
  pool.release(*first);
  EXPECT_EQ(pool.num_held(), 4);
  pool.release(*first);
  EXPECT_EQ(pool.num_cached(), 4);
  EXPECT_TRUE(pool.check_not_held());
  const auto second = pool.acquire(4, names[1]);
  pool.set_filled(*second);
  EXPECT_FALSE(pool.acquire(8, names[2]));  // nothing is dropped for what cannot fit anyway
  EXPECT_EQ(pool.acquire(4, names[0]), first);
  EXPECT_TRUE(pool.is_filled(*first));
  pool.release(*first);
  pool.release(*second);
  const auto third = pool.acquire(4, names[2]);  // in place of the one released first
  EXPECT_EQ(third, first);
  EXPECT_FALSE(pool.is_filled(*third));
  pool.release(*third);  // never filled: nothing to keep
  EXPECT_EQ(pool.num_cached(), 4);
  EXPECT_EQ(pool.acquire(4, names[1]), second);
}

}  // namespace
}  // namespace facet
