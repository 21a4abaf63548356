#include "worker/model/rotary.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/sin.h>

#include <algorithm>

namespace facet {

AngleTable make_angle_table(double theta, std::int64_t dim, std::int64_t positions,
                            HostArena& arena) {
  const at::Tensor exponent = at::arange(0, dim, 2, at::kFloat) / dim;
  const at::Tensor inverse = (1.0 / at::pow(theta, exponent)).contiguous();
  const auto* frequencies = inverse.const_data_ptr<float>();
  AngleTable table;
  table.positions = positions;
  table.pairs = dim / 2;
  table.cos = arena.take<float>(positions * table.pairs);
  table.sin = arena.take<float>(positions * table.pairs);
  float* angle = table.sin;
  for (std::int64_t position = 0; position < positions; ++position)
    for (std::int64_t i = 0; i < table.pairs; ++i)
      *angle++ = frequencies[i] * static_cast<float>(position);
  at::Tensor cos = at::from_blob(table.cos, {positions, table.pairs}, at::kFloat);
  at::Tensor sin = at::from_blob(table.sin, {positions, table.pairs}, at::kFloat);
  at::cos_out(cos, sin);
  sin.sin_();
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
