#include "worker/model/rotary.h"

#include <algorithm>

#include "worker/model/angles.h"

namespace facet {

AngleTable make_angle_table(double theta, std::int64_t dim, std::int64_t positions,
                            HostArena& arena) {
  AngleTable table;
  table.positions = positions;
  table.pairs = dim / 2;
  const auto count = static_cast<std::size_t>(positions * table.pairs);
  table.cos = arena.take<float>(positions * table.pairs);
  table.sin = arena.take<float>(positions * table.pairs);
  fill_angles(theta, dim, {table.cos, count}, {table.sin, count});
  return table;
}

MRope::MRope(const QwenTextConfig& text, std::int64_t positions, HostArena& arena)
    : table_(make_angle_table(text.rope_theta, text.head_dim(), positions, arena)) {
  for (std::uint8_t axis = 0; axis < 3; ++axis)
    axis_.insert(axis_.end(), static_cast<std::size_t>(text.mrope_section[axis]), axis);
  FACET_CHECK(static_cast<std::int64_t>(axis_.size()) == table_.pairs);
}

void MRope::fill(std::span<const Position> positions, float* cos, float* sin) const {
  for (const Position& position : positions) {
    for (const std::int32_t value : position) FACET_CHECK(value >= 0 && value < table_.positions);
    for (std::int64_t i = 0; i < table_.pairs; ++i) {
      const std::int64_t at = position[axis_[static_cast<std::size_t>(i)]] * table_.pairs + i;
      *cos++ = table_.cos[at];
      *sin++ = table_.sin[at];
    }
  }
}

VisionRope::VisionRope(const QwenVisionConfig& vision, std::int64_t max_side, HostArena& arena)
    : table_(make_angle_table(vision.rope_theta, vision.head_dim() / 2, max_side, arena)) {}

void VisionRope::fill(std::span<const std::int32_t> rows, std::span<const std::int32_t> columns,
                      float* cos, float* sin) const {
  for (std::size_t patch = 0; patch < rows.size(); ++patch) {
    for (const std::int64_t place : {rows[patch], columns[patch]}) {
      FACET_CHECK(place >= 0 && place < table_.positions);
      cos = std::copy_n(table_.cos + place * table_.pairs, table_.pairs, cos);
      sin = std::copy_n(table_.sin + place * table_.pairs, table_.pairs, sin);
    }
  }
}

}  // namespace facet
