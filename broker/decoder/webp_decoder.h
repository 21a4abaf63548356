// WebP to RGB8 through libwebp. Runs in a sandboxed child only.
// The pixels equal Pillow's convert("RGB"): alpha is dropped without a matte.
#pragma once

#include <cstdint>
#include <span>

#include "broker/decoder/oriented_rows.h"
#include "common/base/result.h"

namespace facet {

// `info` is read_image_header()'s word on `encoded`; a codec that sees another size refuses.
// An image that is not upright is decoded beside `rows` first: 3 bytes a pixel more.
Status decode_webp(std::span<const std::uint8_t> encoded, const ImageInfo& info,
                   OrientedRows& rows);

}  // namespace facet
