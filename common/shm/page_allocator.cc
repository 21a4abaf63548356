#include "common/shm/page_allocator.h"

#include <algorithm>
#include <string>

#include "common/base/check.h"

namespace facet {

PageAllocator::PageAllocator(std::uint32_t num_pages) : num_pages_(num_pages) {
  if (num_pages > 0) free_.emplace(0, num_pages);
}

std::uint32_t PageAllocator::take(std::map<std::uint32_t, std::uint32_t>::iterator run,
                                  std::uint32_t first, std::uint32_t count) {
  const std::uint32_t run_first = run->first;
  const std::uint32_t run_end = run_first + run->second;
  free_.erase(run);
  if (first > run_first) free_.emplace(run_first, first - run_first);
  if (first + count < run_end) free_.emplace(first + count, run_end - (first + count));
  leased_.emplace(first, count);
  used_ += count;
  high_mark_ = std::max(high_mark_, used_);
  return first;
}

std::optional<std::uint32_t> PageAllocator::allocate(std::uint32_t count) {
  FACET_CHECK(count > 0);
  if (count > free_pages()) return std::nullopt;
  // Next fit: from the cursor to the end, then from the start.
  const auto fits = [count](const auto& run) { return run.second >= count; };
  auto run = std::find_if(free_.lower_bound(cursor_), free_.end(), fits);
  if (run == free_.end()) run = std::find_if(free_.begin(), free_.end(), fits);
  if (run == free_.end()) return std::nullopt;
  const std::uint32_t first = take(run, run->first, count);
  cursor_ = first + count;
  return first;
}

bool PageAllocator::adopt(std::uint32_t first, std::uint32_t count) {
  if (count == 0 || first >= num_pages_ || count > num_pages_ - first) return false;
  auto run = free_.upper_bound(first);
  if (run == free_.begin()) return false;
  --run;
  if (run->first + run->second < first + count) return false;
  take(run, first, count);
  return true;
}

std::uint32_t PageAllocator::release(std::uint32_t first) {
  const auto leased = leased_.find(first);
  FACET_CHECK_MSG(leased != leased_.end(), "release of a run that is not leased");
  const std::uint32_t count = leased->second;
  leased_.erase(leased);
  used_ -= count;
  auto run = free_.emplace(first, count).first;
  const auto next = std::next(run);
  if (next != free_.end() && run->first + run->second == next->first) {
    run->second += next->second;
    free_.erase(next);
  }
  if (run != free_.begin()) {
    const auto before = std::prev(run);
    if (before->first + before->second == run->first) {
      before->second += run->second;
      free_.erase(run);
    }
  }
  return count;
}

std::uint32_t PageAllocator::largest_free_run() const {
  std::uint32_t largest = 0;
  for (const auto& [first, length] : free_) largest = std::max(largest, length);
  return largest;
}

std::uint32_t PageAllocator::run_length(std::uint32_t first) const {
  const auto leased = leased_.find(first);
  return leased == leased_.end() ? 0 : leased->second;
}

Status PageAllocator::check_conservation() const {
  std::uint64_t free_pages_seen = 0;
  std::uint64_t leased_pages_seen = 0;
  for (const auto& [first, length] : free_) free_pages_seen += length;
  for (const auto& [first, length] : leased_) leased_pages_seen += length;
  if (free_pages_seen + leased_pages_seen != num_pages_ || leased_pages_seen != used_) {
    return Error(Code::kInternal, "pages: " + std::to_string(free_pages_seen) + " free + " +
                                      std::to_string(leased_pages_seen) + " leased, of " +
                                      std::to_string(num_pages_));
  }
  std::map<std::uint32_t, std::uint32_t> all = free_;
  for (const auto& run : leased_) {
    if (!all.insert(run).second) {
      return Error(Code::kInternal, "page " + std::to_string(run.first) + " is free and leased");
    }
  }
  std::uint64_t end = 0;
  bool last_free = false;
  for (const auto& [first, length] : all) {
    if (first != end) return Error(Code::kInternal, "page " + std::to_string(first) + " overlaps");
    const bool is_free = free_.contains(first);
    if (is_free && last_free) {
      return Error(Code::kInternal, "free runs touch at page " + std::to_string(first));
    }
    last_free = is_free;
    end = std::uint64_t{first} + length;
  }
  return {};
}

}  // namespace facet
