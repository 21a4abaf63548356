// How the CPU's kernels lay out memory: numbers that they share with the memory plan.
#pragma once

#include <cstdint>

namespace facet {

constexpr std::int64_t kPanel = 16;  // columns of weights, or tokens of KV, that lie side by side

constexpr std::int64_t padded_to_panel(std::int64_t count) {
  return (count + kPanel - 1) / kPanel * kPanel;
}

// Rows of x that a thread works through before it comes back to the first weights.
constexpr std::int64_t kGemmRowBlock = 96;
constexpr std::int64_t kGemmPad = 16;  // floats between two copied rows

constexpr std::int64_t kMaxTileRows = 12;  // rows that are computed together
constexpr std::int64_t kKeyTile = 256;     // keys between two corrections of the softmax

// Query rows that go through a tile of keys before the next one is read: enough to share the keys,
// few enough to share the work.
constexpr std::int64_t kAttentionRows = 4 * kMaxTileRows;

// Floats of scratch that a thread needs for a product, and for attention.
constexpr std::int64_t gemm_scratch(std::int64_t depth) {
  return kGemmRowBlock * (depth + kGemmPad);
}
constexpr std::int64_t attention_scratch(std::int64_t dim) {
  return kAttentionRows * 2 * padded_to_panel(dim) + kMaxTileRows * kKeyTile;
}

// Bytes of `count` values in the arena: pieces begin at lines of the cache.
constexpr std::uint64_t piece_bytes(std::int64_t count, std::int64_t item_bytes) {
  return (static_cast<std::uint64_t>(count * item_bytes) + 63) / 64 * 64;
}

}  // namespace facet
