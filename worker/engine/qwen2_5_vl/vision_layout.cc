#include "worker/engine/qwen2_5_vl/vision_layout.h"

#include <algorithm>

#include "common/base/check.h"

namespace facet {

void append_vision_layout(const QwenVisionConfig& vision, std::int32_t grid_height,
                          std::int32_t grid_width, VisionLayout& layout) {
  const std::int64_t merge = vision.merge_size;
  FACET_CHECK(grid_height > 0 && grid_width > 0);
  FACET_CHECK(grid_height % merge == 0 && grid_width % merge == 0);
  const std::int64_t height = grid_height / merge;
  const std::int64_t width = grid_width / merge;
  const std::int64_t side = vision.window_cells();
  const std::size_t first = layout.cell_order.size();
  const auto base = static_cast<std::int64_t>(first);
  for (std::int64_t top = 0; top < height; top += side) {
    for (std::int64_t left = 0; left < width; left += side) {
      const std::int64_t bottom = std::min(top + side, height);
      const std::int64_t right = std::min(left + side, width);
      for (std::int64_t row = top; row < bottom; ++row)
        for (std::int64_t column = left; column < right; ++column)
          layout.cell_order.push_back(base + row * width + column);
      layout.window_patches.push_back((bottom - top) * (right - left) * vision.merge_unit());
    }
  }
  for (std::size_t i = first; i < layout.cell_order.size(); ++i) {
    const std::int64_t cell = layout.cell_order[i] - base;
    for (std::int64_t patch = 0; patch < vision.merge_unit(); ++patch) {
      layout.rows.push_back(static_cast<std::int32_t>(cell / width * merge + patch / merge));
      layout.columns.push_back(static_cast<std::int32_t>(cell % width * merge + patch % merge));
    }
  }
}

VisionLayout make_vision_layout(const QwenVisionConfig& vision, std::int32_t grid_height,
                                std::int32_t grid_width) {
  VisionLayout layout;
  append_vision_layout(vision, grid_height, grid_width, layout);
  return layout;
}

}  // namespace facet
