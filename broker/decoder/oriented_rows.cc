#include "broker/decoder/oriented_rows.h"

#include <cstring>

#include "common/base/check.h"

namespace facet {

OrientedRows::OrientedRows(const ImageInfo& info, std::span<std::uint8_t> out)
    : out_(out.data()), stored_width_(info.stored_width) {
  FACET_CHECK(out.size() == info.rgb_bytes());
  const auto pitch = static_cast<std::ptrdiff_t>(3) * info.width;
  const std::ptrdiff_t last_column = pitch - 3;
  const std::ptrdiff_t last_row = pitch * (static_cast<std::ptrdiff_t>(info.height) - 1);
  switch (info.orientation) {
    case 2:  // mirrored
      first_ = last_column, pixel_step_ = -3, row_step_ = pitch;
      break;
    case 3:  // turned by 180 degrees
      first_ = last_row + last_column, pixel_step_ = -3, row_step_ = -pitch;
      break;
    case 4:  // upside down
      first_ = last_row, pixel_step_ = 3, row_step_ = -pitch;
      break;
    case 5:  // transposed
      first_ = 0, pixel_step_ = pitch, row_step_ = 3;
      break;
    case 6:  // to be turned clockwise
      first_ = last_column, pixel_step_ = pitch, row_step_ = -3;
      break;
    case 7:  // transposed along the other diagonal
      first_ = last_row + last_column, pixel_step_ = -pitch, row_step_ = -3;
      break;
    case 8:  // to be turned counter-clockwise
      first_ = last_row, pixel_step_ = -pitch, row_step_ = 3;
      break;
    default:
      first_ = 0, pixel_step_ = 3, row_step_ = pitch;
  }
}

std::uint8_t* OrientedRows::upright_row(std::uint32_t y) const {
  return out_ + first_ + row_step_ * static_cast<std::ptrdiff_t>(y);
}

void OrientedRows::put(std::uint32_t y, const std::uint8_t* rgb) {
  std::uint8_t* target = upright_row(y);
  if (pixel_step_ == 3) {
    std::memcpy(target, rgb, std::size_t{3} * stored_width_);
    return;
  }
  for (std::uint32_t x = 0; x < stored_width_; ++x, rgb += 3, target += pixel_step_) {
    target[0] = rgb[0];
    target[1] = rgb[1];
    target[2] = rgb[2];
  }
}

}  // namespace facet
