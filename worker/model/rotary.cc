#include "worker/model/rotary.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/sin.h>

namespace facet {

std::vector<float> inverse_frequencies(double theta, std::int64_t dim) {
  const at::Tensor exponent = at::arange(0, dim, 2, at::kFloat) / dim;
  const at::Tensor inverse = (1.0 / at::pow(theta, exponent)).contiguous();
  const auto* data = inverse.const_data_ptr<float>();
  return {data, data + inverse.numel()};
}

MRope::MRope(const QwenTextConfig& text)
    : frequencies_(inverse_frequencies(text.rope_theta, text.head_dim())) {
  for (std::uint8_t axis = 0; axis < 3; ++axis)
    axis_.insert(axis_.end(), static_cast<std::size_t>(text.mrope_section[axis]), axis);
}

void MRope::fill(std::span<const Position> positions, std::int64_t first_row,
                 RotaryTable& table) const {
  const auto rows = static_cast<std::int64_t>(positions.size());
  at::Tensor cos = table.cos.narrow(0, first_row, rows);
  at::Tensor sin = table.sin.narrow(0, first_row, rows);
  auto* angle = sin.data_ptr<float>();
  for (const Position& position : positions)
    for (std::size_t i = 0; i < frequencies_.size(); ++i)
      *angle++ = frequencies_[i] * static_cast<float>(position[axis_[i]]);
  at::cos_out(cos, sin);
  sin.sin_();
}

RotaryTable vision_rotary(const QwenVisionConfig& vision, std::span<const std::int32_t> rows,
                          std::span<const std::int32_t> columns) {
  const std::vector<float> frequencies =
      inverse_frequencies(vision.rope_theta, vision.head_dim() / 2);
  at::Tensor angles =
      at::empty({static_cast<std::int64_t>(rows.size()), vision.head_dim() / 2}, at::kFloat);
  auto* angle = angles.data_ptr<float>();
  for (std::size_t patch = 0; patch < rows.size(); ++patch) {
    for (const float frequency : frequencies)
      *angle++ = static_cast<float>(rows[patch]) * frequency;
    for (const float frequency : frequencies)
      *angle++ = static_cast<float>(columns[patch]) * frequency;
  }
  return {angles.cos(), angles.sin()};
}

}  // namespace facet
