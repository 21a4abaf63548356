// RGB8 images: three bytes a pixel, rows from top to bottom.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "worker/image/smart_resize.h"

namespace facet {

// Borrowed pixels, for example in the image ring. Row y begins at data + y * stride_bytes.
struct RgbView {
  const std::uint8_t* data = nullptr;
  ImageSize size;
  std::size_t stride_bytes = 0;  // at least 3 * width

  const std::uint8_t* row(std::int64_t y) const {
    return data + static_cast<std::size_t>(y) * stride_bytes;
  }
};

// Owned pixels, rows without gaps.
struct RgbImage {
  ImageSize size;
  std::vector<std::uint8_t> pixels;  // 3 * width * height

  explicit RgbImage(ImageSize image_size = {})
      : size(image_size), pixels(static_cast<std::size_t>(size.height * size.width) * 3) {}
  std::size_t stride_bytes() const { return static_cast<std::size_t>(size.width) * 3; }
  std::uint8_t* row(std::int64_t y) {
    return pixels.data() + static_cast<std::size_t>(y) * stride_bytes();
  }
  RgbView view() const { return {pixels.data(), size, stride_bytes()}; }
};

}  // namespace facet
