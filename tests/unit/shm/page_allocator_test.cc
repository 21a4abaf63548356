#include "common/shm/page_allocator.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

namespace facet {
namespace {

TEST(PageAllocator, NextFitGoesOnWhereItStoppedAndWrapsAround) {
  PageAllocator pages(10);
  EXPECT_EQ(pages.allocate(4), 0u);
  EXPECT_EQ(pages.allocate(4), 4u);
  pages.release(0);
  EXPECT_EQ(pages.allocate(2), 8u);  // not the hole at 0: the search goes on behind the last run
  EXPECT_EQ(pages.allocate(3), 0u);
  EXPECT_FALSE(pages.allocate(2).has_value());  // one page is left
  EXPECT_EQ(pages.free_pages(), 1u);
}

TEST(PageAllocator, ReleasedInAnyOrderNeighboursMerge) {
  PageAllocator pages(6);
  for (std::uint32_t i = 0; i < 6; ++i) ASSERT_EQ(pages.allocate(1), i);
  for (std::uint32_t i : {4u, 0u, 2u, 1u, 5u, 3u}) pages.release(i);
  EXPECT_EQ(pages.largest_free_run(), 6u);
  EXPECT_EQ(pages.high_mark(), 6u);
  EXPECT_TRUE(pages.check_conservation().has_value());
}

TEST(PageAllocator, ARunLongerThanTheLargestHoleIsRefusedThoughEnoughPagesAreFree) {
  PageAllocator pages(5);
  std::vector<std::uint32_t> runs;
  for (int i = 0; i < 5; ++i) runs.push_back(*pages.allocate(1));
  pages.release(1);
  pages.release(3);
  EXPECT_EQ(pages.free_pages(), 2u);
  EXPECT_FALSE(pages.allocate(2).has_value());
}

TEST(PageAllocator, AdoptRefusesWhatIsLeasedOrOutside) {
  PageAllocator pages(8);
  EXPECT_TRUE(pages.adopt(2, 3));
  EXPECT_FALSE(pages.adopt(4, 1));
  EXPECT_FALSE(pages.adopt(0, 3));
  EXPECT_FALSE(pages.adopt(7, 2));
  EXPECT_FALSE(pages.adopt(8, 1));
  EXPECT_FALSE(pages.adopt(1, UINT32_MAX));
  EXPECT_FALSE(pages.adopt(0, 0));
  EXPECT_TRUE(pages.adopt(0, 2));
  EXPECT_EQ(pages.release(2), 3u);
}

TEST(PageAllocatorDeath, ReleaseOfWhatIsNotLeasedIsADefect) {
  PageAllocator pages(8);
  (void)pages.allocate(4);
  EXPECT_DEATH(pages.release(1), "not leased");
}

TEST(PageAllocator, AgreesWithAModelOverManyRandomSteps) {
  std::mt19937 rng(7);
  PageAllocator pages(97);
  std::map<std::uint32_t, std::uint32_t> model;
  for (int i = 0; i < 20'000; ++i) {
    if (rng() % 2 == 0 || model.empty()) {
      const std::uint32_t count = 1 + rng() % 12;
      if (const auto first = pages.allocate(count)) {
        for (const auto& [other, length] : model) {
          ASSERT_TRUE(*first + count <= other || other + length <= *first);
        }
        ASSERT_LE(*first + count, 97u);
        model[*first] = count;
      } else {
        ASSERT_LT(pages.largest_free_run(), count);
      }
    } else {
      auto victim = std::next(model.begin(), static_cast<long>(rng() % model.size()));
      ASSERT_EQ(pages.release(victim->first), victim->second);
      model.erase(victim);
    }
    ASSERT_TRUE(pages.check_conservation().has_value());
  }
}

}  // namespace
}  // namespace facet
