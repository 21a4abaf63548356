#include "worker/engine/row_pool.h"

#include <string>

#include "common/base/check.h"

namespace facet {

std::optional<std::int32_t> RowPool::acquire(std::int32_t count) {
  FACET_CHECK(count > 0);
  std::int32_t first = 0;
  for (const auto& [begin, rows] : runs_) {
    if (begin - first >= count) break;
    first = begin + rows;
  }
  if (total_ - first < count) return std::nullopt;
  runs_.emplace(first, count);
  used_ += count;
  return first;
}

void RowPool::release(std::int32_t first) {
  const auto run = runs_.find(first);
  FACET_CHECK(run != runs_.end());
  used_ -= run->second;
  runs_.erase(run);
}

Status RowPool::check_all_free() const {
  if (runs_.empty() && used_ == 0) return {};
  return Error(Code::kInternal, std::to_string(used_) + " rows of encoder output are still held");
}

}  // namespace facet
