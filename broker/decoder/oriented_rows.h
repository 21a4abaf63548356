// Places the rows of a stored image into the upright RGB8 image, EXIF orientation applied.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "broker/decoder/image_header.h"

namespace facet {

class OrientedRows {
 public:
  // `out` holds info.rgb_bytes(); rows of 3 * info.width bytes, top to bottom.
  OrientedRows(const ImageInfo& info, std::span<std::uint8_t> out);

  // Stored row `y` lies in `out` as it is: a codec may write it there (orientation 1 only).
  bool is_upright() const { return pixel_step_ == 3 && row_step_ > 0; }
  std::uint8_t* upright_row(std::uint32_t y) const;

  // `rgb`: 3 * stored_width bytes, the stored row `y`.
  void put(std::uint32_t y, const std::uint8_t* rgb);

 private:
  std::uint8_t* out_;
  std::uint32_t stored_width_;
  std::ptrdiff_t first_ = 0;       // byte offset of stored pixel (0, 0)
  std::ptrdiff_t pixel_step_ = 3;  // bytes from a stored pixel to its right neighbour
  std::ptrdiff_t row_step_ = 0;    // bytes from a stored pixel to the one below
};

}  // namespace facet
