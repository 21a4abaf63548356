// What an encoded image says about itself, read without decoding a pixel: format, size, EXIF
// orientation. Pure functions over bytes; nothing is allocated by what a header claims.
// The broker links this alone: no codec comes with it.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "common/base/result.h"

namespace facet {

enum class ImageFormat : std::uint32_t { kJpeg = 1, kPng = 2, kWebp = 3 };

std::string_view format_name(ImageFormat format);  // "JPEG", "PNG", "WebP"

struct ImageLimits {
  std::uint32_t max_side = 16384;         // a texture's usual bound; keeps 32-bit arithmetic safe
  std::uint64_t max_pixels = 50'000'000;  // 150 MB of RGB8
};

struct ImageInfo {
  ImageFormat format = ImageFormat::kJpeg;
  std::uint32_t stored_width = 0;  // as the pixels lie in the file
  std::uint32_t stored_height = 0;
  std::uint32_t orientation = 1;   // EXIF tag 274, 1..8; 5..8 swap the sides
  std::uint32_t width = 0;         // after the orientation is applied
  std::uint32_t height = 0;
  std::uint32_t channels = 0;      // as stored: 1 gray or palette, 2 gray+alpha, 3, 4
  bool is_16bit = false;           // PNG only
  bool is_palette = false;         // PNG only

  std::uint64_t rgb_bytes() const { return std::uint64_t{3} * width * height; }
};

// Errors: kUnsupported (neither JPEG, PNG nor WebP, or a kind of them that no decoder here
// reads: lossless or 12-bit JPEG, animated WebP),
// kInvalidArgument (damaged or truncated header), kTooLarge (beyond `limits`; zero sides are
// kInvalidArgument). The message is for the client: it names what was found and the limit.
Result<ImageInfo> read_image_header(std::span<const std::uint8_t> encoded,
                                    const ImageLimits& limits = {});

}  // namespace facet
