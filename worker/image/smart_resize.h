// The size Qwen2-VL and Qwen2.5-VL resize an image to.
#pragma once

#include <cstdint>

#include "common/base/result.h"

namespace facet {

struct ImageSize {
  std::int64_t height = 0, width = 0;  // pixels
  friend bool operator==(const ImageSize&, const ImageSize&) = default;
};

// Both sides multiples of `factor`, between min_pixels and max_pixels in area, near the aspect
// ratio of `size` (transformers 5.17.0, Qwen2VLImageProcessor smart_resize; Python's round, half to
// even). kInvalidArgument for an empty image or one with an aspect ratio above 200.
Result<ImageSize> smart_resize(ImageSize size, std::int64_t factor, std::int64_t min_pixels,
                               std::int64_t max_pixels);

}  // namespace facet
