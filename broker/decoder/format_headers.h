// One header reader for each format; image_header.cc chooses among them and applies the limits.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "broker/decoder/image_header.h"
#include "common/base/result.h"

namespace facet {

using EncodedBytes = std::span<const std::uint8_t>;

// In front of the TIFF stream of EXIF; Pillow skips it wherever it stands.
inline constexpr std::string_view kExifPrefix("Exif\0\0", 6);

// EXIF counts before XMP, as in Pillow's exif_transpose(); other values than 1..8 mean 1.
struct Orientation {
  std::optional<std::uint32_t> exif;
  std::optional<std::uint32_t> xmp;

  std::uint32_t value() const {
    const std::uint32_t tag = exif ? *exif : xmp.value_or(1);
    return tag >= 1 && tag <= 8 ? tag : 1;
  }
};

// What a file says: `info` without orientation, width and height.
struct RawHeader {
  ImageInfo info;
  Orientation orientation;
};

// `encoded` begins with the format's signature. Errors as in read_image_header(), no limits.
Result<RawHeader> read_jpeg_header(EncodedBytes encoded);
Result<RawHeader> read_png_header(EncodedBytes encoded);
Result<RawHeader> read_webp_header(EncodedBytes encoded);

inline bool starts_with(EncodedBytes bytes, std::string_view prefix) {
  return bytes.size() >= prefix.size() &&
         std::equal(prefix.begin(), prefix.end(), bytes.begin(),
                    [](char a, std::uint8_t b) { return static_cast<std::uint8_t>(a) == b; });
}

inline std::uint32_t read_be16(EncodedBytes bytes, std::size_t at) {
  return static_cast<std::uint32_t>(bytes[at] << 8 | bytes[at + 1]);
}

inline std::uint32_t read_be32(EncodedBytes bytes, std::size_t at) {
  return read_be16(bytes, at) << 16 | read_be16(bytes, at + 2);
}

inline std::uint32_t read_le24(EncodedBytes bytes, std::size_t at) {
  return static_cast<std::uint32_t>(bytes[at] | bytes[at + 1] << 8 | bytes[at + 2] << 16);
}

inline std::uint32_t read_le32(EncodedBytes bytes, std::size_t at) {
  return read_le24(bytes, at) | std::uint32_t{bytes[at + 3]} << 24;
}

inline Error damaged(std::string message) { return {Code::kInvalidArgument, std::move(message)}; }

}  // namespace facet
