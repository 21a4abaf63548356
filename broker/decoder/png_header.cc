#include <array>
#include <optional>
#include <string>

#include "broker/decoder/exif_orientation.h"
#include "broker/decoder/format_headers.h"

namespace facet {
namespace {

constexpr std::size_t kMaxChunks = 1 << 16;  // looked at in search of metadata

Status read_ihdr(EncodedBytes body, ImageInfo& info) {
  info.stored_width = read_be32(body, 0);
  info.stored_height = read_be32(body, 4);
  const int depth = body[8];
  const int color = body[9];
  // Depths that PNG allows, as bits of a mask; index = colour type.
  constexpr std::array<int, 7> kDepths = {0x10116, 0, 0x10100, 0x116, 0x10100, 0, 0x10100};
  constexpr std::array<std::uint32_t, 7> kChannels = {1, 0, 3, 1, 2, 0, 4};
  if (color > 6 || depth > 16 || (kDepths[static_cast<std::size_t>(color)] >> depth & 1) == 0) {
    return damaged("PNG header says colour type " + std::to_string(color) + " with " +
                   std::to_string(depth) + " bits");
  }
  if (body[10] != 0 || body[11] != 0 || body[12] > 1) {
    return damaged("PNG header names an unknown compression, filter or interlace method");
  }
  info.channels = kChannels[static_cast<std::size_t>(color)];
  info.is_palette = color == 3;
  info.is_16bit = depth == 16;
  return {};
}

// An uncompressed iTXt chunk with the XMP keyword: keyword NUL flag method language NUL
// translation NUL text.
std::optional<std::uint32_t> read_itxt_orientation(EncodedBytes body) {
  constexpr std::string_view kKeyword("XML:com.adobe.xmp\0\0", 19);
  if (!starts_with(body, kKeyword)) return std::nullopt;
  return read_xmp_orientation(body.subspan(kKeyword.size()));
}

// Which chunks of an animated PNG belong to its default image: none from the next frame on, as
// Pillow reads it.
struct Animation {
  std::uint64_t num_frames = 0;  // 0: not animated
  bool has_pixels = false;       // an IDAT chunk was seen
  bool is_default_extra = true;  // the default image is no frame of the animation

  // True: `type` begins the second picture.
  bool ends_image(EncodedBytes type, EncodedBytes body) {
    if (starts_with(type, "IDAT")) has_pixels = true;
    if (starts_with(type, "acTL") && body.size() >= 8) num_frames = read_be32(body, 0);
    if (!starts_with(type, "fcTL")) return false;
    if (has_pixels) return num_frames + (is_default_extra ? 1 : 0) > 1;
    is_default_extra = false;
    return false;
  }
};

}  // namespace

Result<RawHeader> read_png_header(EncodedBytes encoded) {
  ImageInfo info;
  info.format = ImageFormat::kPng;
  if (encoded.size() < 33) return damaged("PNG header is truncated");
  if (read_be32(encoded, 8) != 13 || !starts_with(encoded.subspan(12), "IHDR")) {
    return damaged("PNG does not begin with its header chunk");
  }
  FACET_TRY_STATUS(read_ihdr(encoded.subspan(16, 13), info));
  // PNG sides have 31 bits; the limits below refuse what is larger anyway.
  Orientation orientation;
  Animation animation;
  std::size_t at = 33;
  for (std::size_t chunk = 0; chunk < kMaxChunks && encoded.size() - at >= 12; ++chunk) {
    const std::size_t length = read_be32(encoded, at);
    if (length > encoded.size() - at - 12) break;  // truncated: the decoder says so
    const EncodedBytes type = encoded.subspan(at + 4, 4);
    EncodedBytes body = encoded.subspan(at + 8, length);
    if (animation.ends_image(type, body)) break;
    if (starts_with(type, "eXIf")) {
      while (starts_with(body, kExifPrefix)) body = body.subspan(kExifPrefix.size());
      orientation.exif = read_exif_orientation(body);
    } else if (starts_with(type, "iTXt")) {
      if (const auto value = read_itxt_orientation(body)) orientation.xmp = value;
    } else if (starts_with(type, "IEND")) {
      break;
    }
    at += 12 + length;
  }
  return RawHeader{info, orientation};
}

}  // namespace facet
