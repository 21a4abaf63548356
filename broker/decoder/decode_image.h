// One encoded image to upright RGB8: header, limits, codec. The only door to the codecs.
#pragma once

#include <cstdint>
#include <span>

#include "broker/decoder/image_header.h"
#include "common/base/result.h"

namespace facet {

// `pixels` must hold exactly 3 * width * height bytes, with width and height as the broker read
// them from the header (orientation applied). Any other size, and any damage, is an Error whose
// message is for the client. `pixels` may be partly written then. Never throws.
Status decode_image(std::span<const std::uint8_t> encoded, std::uint32_t width,
                    std::uint32_t height, std::span<std::uint8_t> pixels);

// Its type: tests put a hostile one in its place.
using Decode = decltype(decode_image);

}  // namespace facet
