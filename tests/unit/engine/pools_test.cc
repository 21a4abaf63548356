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
  EXPECT_EQ(pool.num_free(), 4);
  EXPECT_EQ(pool.blocks_for(0), 0);
  EXPECT_EQ(pool.blocks_for(16), 1);
  EXPECT_EQ(pool.blocks_for(17), 2);
}

TEST(BlockPool, SharedBlocksStayUntilTheLastHolderLeaves) {
  BlockPool pool(4, 16);
  std::vector<std::int32_t> first;
  ASSERT_TRUE(pool.acquire(2, first));
  std::vector<std::int32_t> second = first;
  for (const std::int32_t block : second) pool.share(block);
  const std::vector<std::int32_t>* tables[] = {&first, &second};
  EXPECT_TRUE(pool.check(tables));
  pool.release(first);
  EXPECT_EQ(pool.num_free(), 2);
  pool.release(second);
  EXPECT_EQ(pool.num_free(), 4);
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
      const auto first = pool.acquire(count);
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
    EXPECT_TRUE(pool.check_all_free());
  }
}

TEST(RowPool, AFreePoolTakesItsWholeSize) {
  RowPool pool(10);
  EXPECT_FALSE(pool.acquire(11));
  const auto first = pool.acquire(10);
  ASSERT_TRUE(first);
  EXPECT_FALSE(pool.acquire(1));
  EXPECT_FALSE(pool.check_all_free());
}

}  // namespace
}  // namespace facet
