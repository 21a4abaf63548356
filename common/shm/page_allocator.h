// PageAllocator: contiguous runs of pages out of a fixed range, next fit, released in any order.
// Pure bookkeeping in private memory: it touches no page, so it can be rebuilt from a table.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "common/base/result.h"

namespace facet {

class PageAllocator {
 public:
  explicit PageAllocator(std::uint32_t num_pages);

  // First page of a run of `count` (> 0) pages, or nothing when no free run is long enough.
  std::optional<std::uint32_t> allocate(std::uint32_t count);
  // Leases exactly this run (recovery). False when any page of it is leased or out of range.
  bool adopt(std::uint32_t first, std::uint32_t count);
  // Gives a run back; `first` must be what allocate() or adopt() leased. Returns its length.
  std::uint32_t release(std::uint32_t first);

  std::uint32_t num_pages() const { return num_pages_; }
  std::uint32_t used_pages() const { return used_; }
  std::uint32_t free_pages() const { return num_pages_ - used_; }
  std::uint32_t high_mark() const { return high_mark_; }  // most pages ever used at once
  std::uint32_t largest_free_run() const;
  std::uint32_t num_runs() const { return static_cast<std::uint32_t>(leased_.size()); }
  // Length of the leased run that starts at `first`; 0 when none does.
  std::uint32_t run_length(std::uint32_t first) const;

  // free + leased = all, nothing overlaps, no two free runs touch. Names what does not hold.
  Status check_conservation() const;

 private:
  std::uint32_t num_pages_;
  std::uint32_t used_ = 0;
  std::uint32_t high_mark_ = 0;
  std::uint32_t cursor_ = 0;                       // where the next search begins
  std::map<std::uint32_t, std::uint32_t> free_;    // first page -> length
  std::map<std::uint32_t, std::uint32_t> leased_;  // first page -> length

  std::uint32_t take(std::map<std::uint32_t, std::uint32_t>::iterator run, std::uint32_t first,
                     std::uint32_t count);
};

}  // namespace facet
