// Rotary tables, made at start for every position there can be. Angles, cosines and sines are fp32
// in every dtype; libtorch's own cos and sin are used because the reference's are.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "worker/checkpoint/qwen_config.h"
#include "worker/engine/model_runner.h"
#include "worker/model/host_arena.h"

namespace facet {

struct AngleTable {
  float* cos = nullptr;  // [positions, pairs]
  float* sin = nullptr;
  std::int64_t positions = 0;
  std::int64_t pairs = 0;
};

// Pair i of position p turns by p / theta^(2 i / dim), i = 0 .. dim / 2 - 1, as the reference
// rounds it. Throws what libtorch throws.
AngleTable make_angle_table(double theta, std::int64_t dim, std::int64_t positions,
                            HostArena& arena);

// Language model: pair i turns with the T, H or W position, in sections (M-RoPE).
class MRope {
 public:
  MRope(const QwenTextConfig& text, std::int64_t positions, HostArena& arena);
  // cos, sin [positions.size(), head_dim / 2]
  void fill(std::span<const Position> positions, float* cos, float* sin) const;

 private:
  AngleTable table_;
  std::vector<std::uint8_t> axis_;  // of each pair
};

// Vision: the first half of the pairs turns with the row, the second with the column.
class VisionRope {
 public:
  VisionRope(const QwenVisionConfig& vision, std::int64_t max_side, HostArena& arena);
  // cos, sin [rows.size(), head_dim / 2]
  void fill(std::span<const std::int32_t> rows, std::span<const std::int32_t> columns, float* cos,
            float* sin) const;

 private:
  AngleTable table_;
};

}  // namespace facet
