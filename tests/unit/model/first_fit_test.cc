#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

#include "worker/model/cuda/torch_arena.h"

namespace facet {
namespace {

constexpr std::uint64_t kUnit = FirstFit::kAlignment;

TEST(FirstFit, JoinsNeighboursAndSaysWhatIsLeft) {
  std::vector<std::byte> region(8 * kUnit);
  FirstFit fit(region.data(), region.size());
  void* a = fit.allocate(1);
  void* b = fit.allocate(2 * kUnit);
  void* c = fit.allocate(5 * kUnit);
  ASSERT_NE(c, nullptr);
  EXPECT_EQ(fit.allocate(1), nullptr);
  fit.release(a);
  fit.release(c);
  EXPECT_EQ(fit.largest_gap(), 5 * kUnit);
  EXPECT_EQ(fit.allocate(6 * kUnit), nullptr);
  fit.release(b);
  EXPECT_EQ(fit.largest_gap(), 8 * kUnit);
  EXPECT_EQ(fit.in_use(), 0u);
  EXPECT_EQ(fit.most_in_use(), 8 * kUnit);
}

TEST(FirstFit, BlocksNeverOverlapInAnyOrder) {
  std::vector<std::byte> region(4096 * kUnit);
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 rng(seed);
  FirstFit fit(region.data(), region.size());
  std::map<std::byte*, std::uint64_t> held;
  std::uint64_t in_use = 0;
  for (int step = 0; step < 20'000; ++step) {
    if (held.empty() || rng() % 2 == 0) {
      const std::uint64_t bytes = 1 + rng() % (64 * kUnit);
      auto* block = static_cast<std::byte*>(fit.allocate(bytes));
      if (block == nullptr) continue;
      const std::uint64_t taken = (bytes + kUnit - 1) / kUnit * kUnit;
      const auto next = held.lower_bound(block);
      if (next != held.end()) {
        ASSERT_LE(block + taken, next->first);
      }
      if (next != held.begin()) {
        ASSERT_LE(std::prev(next)->first + std::prev(next)->second, block);
      }
      ASSERT_LE(block + taken, region.data() + region.size());
      held[block] = taken;
      in_use += taken;
    } else {
      const auto victim = std::next(held.begin(), static_cast<long>(rng() % held.size()));
      fit.release(victim->first);
      in_use -= victim->second;
      held.erase(victim);
    }
    ASSERT_EQ(fit.in_use(), in_use);
  }
  for (const auto& [block, bytes] : held) fit.release(block);
  EXPECT_EQ(fit.largest_gap(), fit.size());
}

}  // namespace
}  // namespace facet
