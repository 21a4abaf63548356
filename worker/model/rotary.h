// Rotary tables. Angles, cosines and sines are fp32 in every dtype; libtorch's own cos and sin are
// used because the reference's are.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "worker/checkpoint/qwen_config.h"
#include "worker/engine/model_runner.h"

namespace facet {

struct RotaryTable {
  at::Tensor cos;  // fp32 [rows, head_dim / 2]
  at::Tensor sin;
};

// 1 / theta^(2 i / dim), i = 0 .. dim / 2 - 1, as the reference rounds it.
std::vector<float> inverse_frequencies(double theta, std::int64_t dim);

// Language model: pair i turns with the T, H or W position, in sections (M-RoPE).
class MRope {
 public:
  explicit MRope(const QwenTextConfig& text);
  // positions [rows]; fills the first rows of `table`, which has room for them.
  void fill(std::span<const Position> positions, std::int64_t first_row, RotaryTable& table) const;

 private:
  std::vector<float> frequencies_;
  std::vector<std::uint8_t> axis_;  // of each pair
};

// Vision: the first half of the pairs turns with the row, the second with the column.
RotaryTable vision_rotary(const QwenVisionConfig& vision, std::span<const std::int32_t> rows,
                          std::span<const std::int32_t> columns);

}  // namespace facet
