// Antialiased bicubic resize of RGB8 images, bit for bit torchvision's.
#pragma once

#include "worker/image/rgb_image.h"

namespace facet {

struct ResizePasses;

// Equal in every value to torchvision 0.26 resize(uint8, BICUBIC, antialias=True) on a CPU: the
// rows first, then the columns, uint8 between them; an axis that keeps its size is not touched.
// Both sizes at least 1x1. Time grows with taps: input area times the shrink factor at most.
RgbImage resize_bicubic(const RgbView& input, ImageSize output_size);

// The same with the passes of a given kind of CPU, for tests.
RgbImage resize_bicubic_with(const ResizePasses& passes, const RgbView& input,
                             ImageSize output_size);

}  // namespace facet
