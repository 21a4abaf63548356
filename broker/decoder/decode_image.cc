#include "broker/decoder/decode_image.h"

#include <exception>
#include <string>

#include "broker/decoder/jpeg_decoder.h"
#include "broker/decoder/oriented_rows.h"
#include "broker/decoder/png_decoder.h"
#include "broker/decoder/webp_decoder.h"

namespace facet {

Status decode_image(std::span<const std::uint8_t> encoded, std::uint32_t width,
                    std::uint32_t height, std::span<std::uint8_t> pixels) try {
  // The broker has applied its own limits; a job is exactly as large as it says.
  const ImageLimits limits{UINT32_MAX, std::uint64_t{width} * height};
  const ImageInfo info = FACET_TRY(read_image_header(encoded, limits));
  if (info.width != width || info.height != height || info.rgb_bytes() != pixels.size()) {
    return Error(Code::kInvalidArgument,
                 "image is " + std::to_string(info.width) + " x " + std::to_string(info.height) +
                     ", not " + std::to_string(width) + " x " + std::to_string(height));
  }
  OrientedRows rows(info, pixels);
  switch (info.format) {
    case ImageFormat::kJpeg:
      return decode_jpeg(encoded, info, rows);
    case ImageFormat::kPng:
      return decode_png(encoded, info, rows);
    case ImageFormat::kWebp:
      return decode_webp(encoded, info, rows);
  }
  return Error(Code::kInternal, "no decoder for this format");
} catch (const std::exception& error) {  // bad_alloc under the child's memory limit
  return Error(Code::kTooLarge, std::string("image needs more memory than allowed: ") +
                                    error.what());
}

}  // namespace facet
