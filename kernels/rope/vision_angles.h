// Cosines and sines of patches from those of rows and columns: the first half of a patch's pairs
// turns with its row, the second with its column.
#pragma once

#include <cstdint>

#include "kernels/base/launch.h"

namespace facet::kernels {

// All in device memory.
struct VisionAnglesArgs {
  const float* cos_table = nullptr;  // [places, pairs / 2]
  const float* sin_table = nullptr;
  const std::int32_t* rows = nullptr;  // [patches], below `places`
  const std::int32_t* columns = nullptr;
  float* cos = nullptr;  // [patches, pairs]
  float* sin = nullptr;
};

cudaError_t vision_angles(const VisionAnglesArgs& args, std::int64_t patches, std::int32_t pairs,
                          const Launch& launch);

}  // namespace facet::kernels
