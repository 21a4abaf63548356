// Pixels of images as rows for a vision tower: antialiased bicubic resize in fixed point, then
// normalization and the order of patches. Equal in every value to worker/image (resize_bicubic,
// write_qwen_patches) before the rounding to the output's type.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/base/launch.h"

namespace facet::kernels {

// One axis of a resize, in device memory; the host computes them (bicubic_weights()).
//   out[i] = clamp((half + sum_k weights[i * num_taps + k] * in[begin[i] + k]) >> precision, 0,
//   255)
struct ResizeAxis {
  const std::int32_t* begin = nullptr;  // null: the axis keeps its size
  const std::int32_t* count = nullptr;
  const std::int16_t* weights = nullptr;
  std::int32_t num_taps = 0;
  std::int32_t precision = 0;
};

struct ImageJob {
  const std::uint8_t* pixels = nullptr;  // RGB8, device memory
  std::int64_t stride_bytes = 0;
  std::int32_t height = 0, width = 0;                  // of the input
  std::int32_t resized_height = 0, resized_width = 0;  // multiples of patch * merge
  ResizeAxis x, y;
  std::uint8_t* scratch = nullptr;  // height * resized_width * 3 bytes; unused where x is null
};

struct PatchSettings {
  std::int32_t patch_size = 14;
  std::int32_t temporal_patch_size = 2;
  std::int32_t merge_size = 2;
  const float* values = nullptr;  // device, [3, 256]: the normalized value of each byte
  DType dtype = DType::kBf16;
};

// out [resized_height / patch * resized_width / patch, 3 * temporal * patch * patch]: rows over
// merge x merge blocks of patches, columns over (channel, time, y, x). One or two kernels; several
// images are packed by their `out` pointers.
cudaError_t image_patches(const ImageJob& job, const PatchSettings& settings, void* out,
                          const Launch& launch);

}  // namespace facet::kernels
