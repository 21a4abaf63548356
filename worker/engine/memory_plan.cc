#include "worker/engine/memory_plan.h"

#include <algorithm>
#include <array>
#include <cstdio>

namespace facet {

std::uint64_t sum_bytes(std::span<const MemoryItem> items) {
  std::uint64_t sum = 0;
  for (const MemoryItem& item : items) sum += item.bytes;
  return sum;
}

std::uint64_t MemoryPlan::used_bytes() const {
  return sum_bytes(items);
}

std::int32_t MemoryPlan::lanes_at(std::int32_t tokens) const {
  const std::int32_t blocks = (tokens + kv_block_tokens - 1) / kv_block_tokens;
  return std::min(max_lanes, kv_blocks / std::max(blocks, 1));
}

std::string bytes_text(std::uint64_t bytes) {
  constexpr std::array<const char*, 4> kUnits{"B", "kB", "MB", "GB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 1000.0 && unit + 1 < kUnits.size(); ++unit) value /= 1000.0;
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), unit == 0 ? "%.0f %s" : "%.2f %s", value, kUnits[unit]);
  return text.data();
}

}  // namespace facet
