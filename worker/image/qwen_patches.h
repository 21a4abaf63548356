// Pixels of an image as the rows that Qwen2.5-VL's vision tower takes.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "common/base/result.h"
#include "worker/image/preprocessor_config.h"
#include "worker/image/rgb_image.h"

namespace facet {

// What an image becomes. grid_t is 1 for images.
struct QwenImagePlan {
  ImageSize resized;                                // pixels
  std::int64_t grid_t = 1, grid_h = 0, grid_w = 0;  // patches
  std::int64_t patch_floats = 0;                    // 3 * temporal * patch * patch, a row's length
  std::int64_t num_tokens = 0;                      // image tokens in the prompt

  std::int64_t num_patches() const { return grid_t * grid_h * grid_w; }
  std::int64_t num_floats() const { return num_patches() * patch_floats; }
};

// kInvalidArgument where smart_resize() says so. Needs no pixels.
Result<QwenImagePlan> plan_qwen_image(ImageSize size, const QwenImageSettings& settings);

// The normalized value of each byte, a table for each channel.
std::array<std::array<float, 256>, 3> normalized_values(const QwenImageSettings& settings);

// Resizes, normalizes and writes float32 [num_patches, patch_floats] to `out`, which has
// plan.num_floats() places, for the plan of image.size. Rows run over merge x merge blocks of
// patches, columns over (channel, time, y, x); the one frame stands for all times. Bits equal
// transformers 5.17.0's Qwen2VLImageProcessor on the CPU: (x - mean*255) / (std*255) in float32.
void write_qwen_patches(const RgbView& image, const QwenImageSettings& settings,
                        const QwenImagePlan& plan, std::span<float> out);

}  // namespace facet
