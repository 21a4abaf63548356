#include "worker/engine/qwen2_5_vl/vision_layout.h"

#include <algorithm>

#include "common/base/check.h"

namespace facet {

VisionLayout make_vision_layout(const QwenVisionConfig& vision, std::int32_t grid_height,
                                std::int32_t grid_width) {
  const std::int64_t merge = vision.merge_size;
  FACET_CHECK(grid_height > 0 && grid_width > 0);
  FACET_CHECK(grid_height % merge == 0 && grid_width % merge == 0);
  const std::int64_t height = grid_height / merge;
  const std::int64_t width = grid_width / merge;
  const std::int64_t side = vision.window_cells();
  VisionLayout layout;
  layout.cell_order.reserve(static_cast<std::size_t>(height * width));
  for (std::int64_t top = 0; top < height; top += side) {
    for (std::int64_t left = 0; left < width; left += side) {
      const std::int64_t bottom = std::min(top + side, height);
      const std::int64_t right = std::min(left + side, width);
      for (std::int64_t row = top; row < bottom; ++row)
        for (std::int64_t column = left; column < right; ++column)
          layout.cell_order.push_back(row * width + column);
      layout.window_patches.push_back((bottom - top) * (right - left) * vision.merge_unit());
    }
  }
  for (const std::int64_t cell : layout.cell_order) {
    for (std::int64_t patch = 0; patch < vision.merge_unit(); ++patch) {
      layout.rows.push_back(static_cast<std::int32_t>(cell / width * merge + patch / merge));
      layout.columns.push_back(static_cast<std::int32_t>(cell % width * merge + patch % merge));
    }
  }
  return layout;
}

}  // namespace facet
