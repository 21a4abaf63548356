// In which order the vision tower takes the patches of an image, and who attends to whom.
// Patches arrive by merged cell (merge x merge patches, which become one token), cells row by row.
// The tower works window by window (transformers 5.17.0, vision_utils.get_vision_window_index).
#pragma once

#include <cstdint>
#include <vector>

#include "worker/checkpoint/qwen_config.h"

namespace facet {

// Images lie one behind the other, in arrival as in the tower.
struct VisionLayout {
  // cell_order[i] = the arriving cell that stands at place i in the tower.
  std::vector<std::int64_t> cell_order;
  // Patches of each window, in the tower's order; sums to all patches.
  std::vector<std::int64_t> window_patches;
  // Row and column of each patch, in the tower's order.
  std::vector<std::int32_t> rows;
  std::vector<std::int32_t> columns;
};

// One image more; sides in patches, multiples of merge_size.
void append_vision_layout(const QwenVisionConfig& vision, std::int32_t grid_height,
                          std::int32_t grid_width, VisionLayout& layout);
// Of one image.
VisionLayout make_vision_layout(const QwenVisionConfig& vision, std::int32_t grid_height,
                                std::int32_t grid_width);

}  // namespace facet
