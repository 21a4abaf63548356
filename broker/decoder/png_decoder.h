// PNG to RGB8 through libpng. Runs in a sandboxed child only.
// The pixels equal Pillow's convert("RGB"): alpha and tRNS are dropped without a matte, 16-bit
// colour keeps its high byte, 16-bit gray is clipped to 255, gamma and profiles are not applied.
#pragma once

#include <cstdint>
#include <span>

#include "broker/decoder/oriented_rows.h"
#include "common/base/result.h"

namespace facet {

// `info` is read_image_header()'s word on `encoded`; a codec that sees another size refuses.
Status decode_png(std::span<const std::uint8_t> encoded, const ImageInfo& info, OrientedRows& rows);

}  // namespace facet
