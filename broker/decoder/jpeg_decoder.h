// JPEG to RGB8 through libjpeg-turbo with its defaults (integer DCT, fancy upsampling).
// Runs in a sandboxed child only. The pixels equal Pillow's convert("RGB").
#pragma once

#include <cstdint>
#include <span>

#include "broker/decoder/oriented_rows.h"
#include "common/base/result.h"

namespace facet {

// `info` is read_image_header()'s word on `encoded`; a codec that sees another size refuses.
Status decode_jpeg(std::span<const std::uint8_t> encoded, const ImageInfo& info,
                   OrientedRows& rows);

}  // namespace facet
