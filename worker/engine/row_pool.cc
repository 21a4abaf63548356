#include "worker/engine/row_pool.h"

#include <string>

#include "common/base/check.h"

namespace facet {

std::int32_t RowPool::num_held() const {
  std::int32_t rows = 0;
  for (const auto& [first, run] : runs_) rows += run.holders > 0 ? run.rows : 0;
  return rows;
}

std::int32_t RowPool::num_cached() const {
  std::int32_t rows = 0;
  for (const auto& [first, run] : runs_) rows += run.holders > 0 ? 0 : run.rows;
  return rows;
}

std::optional<std::int32_t> RowPool::find_gap(std::int32_t count, bool beside_held_only) const {
  std::int32_t first = 0;
  for (const auto& [begin, run] : runs_) {
    if (beside_held_only && run.holders == 0) continue;
    if (begin - first >= count) return first;
    first = begin + run.rows;
  }
  if (total_ - first < count) return std::nullopt;
  return first;
}

void RowPool::drop(Runs::iterator run) {
  if (!run->second.key.is_none()) by_key_.erase(run->second.key);
  runs_.erase(run);
}

void RowPool::drop_longest_unused() {
  auto oldest = runs_.end();
  for (auto run = runs_.begin(); run != runs_.end(); ++run) {
    if (run->second.holders > 0) continue;
    if (oldest == runs_.end() || run->second.unused_since < oldest->second.unused_since)
      oldest = run;
  }
  FACET_CHECK(oldest != runs_.end());
  drop(oldest);
}

std::optional<std::int32_t> RowPool::acquire(std::int32_t count, const ContentKey& key) {
  FACET_CHECK(count > 0);
  const auto found = by_key_.find(key);
  if (found != by_key_.end() && runs_.at(found->second).rows == count) {
    ++runs_.at(found->second).holders;
    return found->second;
  }
  // Nothing is dropped when dropping all would not help.
  if (!find_gap(count, true)) return std::nullopt;
  auto first = find_gap(count, false);
  for (; !first; first = find_gap(count, false)) drop_longest_unused();
  const bool is_named = !key.is_none() && by_key_.emplace(key, *first).second;
  runs_.emplace(*first, Run{count, 1, false, is_named ? key : ContentKey{}, 0});
  return first;
}

void RowPool::release(std::int32_t first) {
  const auto run = runs_.find(first);
  FACET_CHECK(run != runs_.end() && run->second.holders > 0);
  if (--run->second.holders > 0) return;
  run->second.unused_since = next_use_++;
  if (run->second.key.is_none() || !run->second.is_filled) drop(run);
}

bool RowPool::is_filled(std::int32_t first) const {
  return runs_.at(first).is_filled;
}

void RowPool::set_filled(std::int32_t first) {
  runs_.at(first).is_filled = true;
}

Status RowPool::check_not_held() const {
  const std::int32_t held = num_held();
  if (held == 0) return {};
  return Error(Code::kInternal, std::to_string(held) + " rows of encoder output are still held");
}

}  // namespace facet
