#include "broker/decoder/image_header.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <optional>
#include <string>

#include "broker/decoder/exif_orientation.h"

namespace facet {
namespace {

using Bytes = std::span<const std::uint8_t>;

constexpr std::size_t kMaxJpegSegments = 4096;  // before the first scan; real files: dozens
constexpr std::size_t kMaxPngChunks = 1 << 16;  // looked at in search of metadata

constexpr std::array<std::uint8_t, 8> kPngSignature = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};

std::uint32_t read_be16(Bytes bytes, std::size_t at) {
  return static_cast<std::uint32_t>(bytes[at] << 8 | bytes[at + 1]);
}

std::uint32_t read_be32(Bytes bytes, std::size_t at) {
  return read_be16(bytes, at) << 16 | read_be16(bytes, at + 2);
}

bool starts_with(Bytes bytes, std::string_view prefix) {
  return bytes.size() >= prefix.size() &&
         std::equal(prefix.begin(), prefix.end(), bytes.begin(),
                    [](char a, std::uint8_t b) { return static_cast<std::uint8_t>(a) == b; });
}

Error damaged(std::string message) { return {Code::kInvalidArgument, std::move(message)}; }

// EXIF counts before XMP, as in Pillow's exif_transpose().
struct Orientation {
  std::optional<std::uint32_t> exif;
  std::optional<std::uint32_t> xmp;

  std::uint32_t value() const {
    const std::uint32_t tag = exif ? *exif : xmp.value_or(1);
    return tag >= 1 && tag <= 8 ? tag : 1;
  }
};

Result<ImageInfo> finish(ImageInfo info, const Orientation& orientation,
                         const ImageLimits& limits) {
  const std::string what = std::string(format_name(info.format)) + " header says " +
                           std::to_string(info.stored_width) + " x " +
                           std::to_string(info.stored_height);
  if (info.stored_width == 0 || info.stored_height == 0) return damaged(what);
  if (std::max(info.stored_width, info.stored_height) > limits.max_side) {
    return Error(Code::kTooLarge,
                 what + ": a side is limited to " + std::to_string(limits.max_side) + " pixels");
  }
  if (std::uint64_t{info.stored_width} * info.stored_height > limits.max_pixels) {
    return Error(Code::kTooLarge, what + ": an image is limited to " +
                                      std::to_string(limits.max_pixels) + " pixels");
  }
  info.orientation = orientation.value();
  info.width = info.stored_width;
  info.height = info.stored_height;
  if (info.orientation >= 5) std::swap(info.width, info.height);
  return info;
}

bool is_frame_header(std::uint8_t marker) {  // SOF0..15; C4, C8 and CC are something else
  return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
}

Status read_frame_header(std::uint8_t marker, Bytes body, ImageInfo& info) {
  // 0, 1: sequential, 2: progressive, 9, 10: the same with arithmetic coding.
  const int process = marker - 0xc0;
  if (process > 2 && process != 9 && process != 10) {
    return Error(Code::kUnsupported, "JPEG of process SOF" + std::to_string(process) +
                                         ": only sequential and progressive ones can be read");
  }
  if (body.size() < 6) return damaged("JPEG frame header is too short");
  if (body[0] != 8) {
    return Error(Code::kUnsupported,
                 "JPEG with " + std::to_string(body[0]) + " bits per sample: only 8 can be read");
  }
  info.stored_height = read_be16(body, 1);
  info.stored_width = read_be16(body, 3);
  info.channels = body[5];
  if (info.channels != 1 && info.channels != 3 && info.channels != 4) {
    return Error(Code::kUnsupported, "JPEG with " + std::to_string(info.channels) +
                                         " components: only 1, 3 and 4 can be read");
  }
  return {};
}

void read_app1(Bytes body, Orientation& orientation) {
  constexpr std::string_view kExif("Exif\0\0", 6);
  constexpr std::string_view kXmp("http://ns.adobe.com/xap/1.0/\0", 29);
  if (starts_with(body, kExif)) {
    while (starts_with(body, kExif)) body = body.subspan(kExif.size());
    if (!orientation.exif) orientation.exif = read_exif_orientation(body);
  } else if (starts_with(body, kXmp)) {
    orientation.xmp = read_xmp_orientation(body.subspan(kXmp.size()));
  }
}

Result<ImageInfo> read_jpeg_header(Bytes encoded, const ImageLimits& limits) {
  ImageInfo info;
  info.format = ImageFormat::kJpeg;
  Orientation orientation;
  bool has_frame = false;
  std::size_t at = 2;
  for (std::size_t segment = 0; segment < kMaxJpegSegments; ++segment) {
    // Like libjpeg: skip whatever is not a marker, and fill bytes.
    while (at < encoded.size() && encoded[at] != 0xff) ++at;
    while (at < encoded.size() && encoded[at] == 0xff) ++at;
    if (at >= encoded.size()) return damaged("JPEG header is truncated");
    const std::uint8_t marker = encoded[at++];
    if (marker <= 0x01 || (marker >= 0xd0 && marker <= 0xd8)) continue;  // no body
    if (marker == 0xd9) return damaged("JPEG ends before its first scan");
    if (encoded.size() - at < 2) return damaged("JPEG header is truncated");
    const std::size_t length = read_be16(encoded, at);
    if (length < 2) return damaged("JPEG segment has length " + std::to_string(length));
    if (length > encoded.size() - at) return damaged("JPEG header is truncated");
    const Bytes body = encoded.subspan(at + 2, length - 2);
    at += length;
    if (is_frame_header(marker)) {
      if (has_frame) return damaged("JPEG has two frame headers");
      FACET_TRY_STATUS(read_frame_header(marker, body, info));
      has_frame = true;
    } else if (marker == 0xe1) {
      read_app1(body, orientation);
    } else if (marker == 0xda) {
      if (!has_frame) return damaged("JPEG has no frame header before its first scan");
      return finish(info, orientation, limits);
    }
  }
  return damaged("JPEG has more than " + std::to_string(kMaxJpegSegments) +
                 " segments before its first scan");
}

Status read_ihdr(Bytes body, ImageInfo& info) {
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
std::optional<std::uint32_t> read_itxt_orientation(Bytes body) {
  constexpr std::string_view kKeyword("XML:com.adobe.xmp\0\0", 19);
  if (!starts_with(body, kKeyword)) return std::nullopt;
  return read_xmp_orientation(body.subspan(kKeyword.size()));
}

Result<ImageInfo> read_png_header(Bytes encoded, const ImageLimits& limits) {
  ImageInfo info;
  info.format = ImageFormat::kPng;
  if (encoded.size() < 33) return damaged("PNG header is truncated");
  if (read_be32(encoded, 8) != 13 || !starts_with(encoded.subspan(12), "IHDR")) {
    return damaged("PNG does not begin with its header chunk");
  }
  FACET_TRY_STATUS(read_ihdr(encoded.subspan(16, 13), info));
  // PNG sides have 31 bits; the limits below refuse what is larger anyway.
  Orientation orientation;
  std::size_t at = 33;
  for (std::size_t chunk = 0; chunk < kMaxPngChunks && encoded.size() - at >= 12; ++chunk) {
    const std::size_t length = read_be32(encoded, at);
    if (length > encoded.size() - at - 12) break;  // truncated: the decoder says so
    const Bytes type = encoded.subspan(at + 4, 4);
    Bytes body = encoded.subspan(at + 8, length);
    if (starts_with(type, "eXIf")) {
      if (starts_with(body, std::string_view("Exif\0\0", 6))) body = body.subspan(6);
      orientation.exif = read_exif_orientation(body);
    } else if (starts_with(type, "iTXt")) {
      if (const auto value = read_itxt_orientation(body)) orientation.xmp = value;
    } else if (starts_with(type, "IEND")) {
      break;
    }
    at += 12 + length;
  }
  return finish(info, orientation, limits);
}

}  // namespace

std::string_view format_name(ImageFormat format) {
  return format == ImageFormat::kJpeg ? "JPEG" : "PNG";
}

Result<ImageInfo> read_image_header(std::span<const std::uint8_t> encoded,
                                    const ImageLimits& limits) {
  if (encoded.empty()) return damaged("the image is empty");
  if (encoded.size() >= 3 && encoded[0] == 0xff && encoded[1] == 0xd8 && encoded[2] == 0xff) {
    return read_jpeg_header(encoded, limits);
  }
  if (encoded.size() >= kPngSignature.size() &&
      std::equal(kPngSignature.begin(), kPngSignature.end(), encoded.begin())) {
    return read_png_header(encoded, limits);
  }
  std::string found;
  for (const std::uint8_t byte : encoded.first(std::min<std::size_t>(encoded.size(), 4))) {
    char hex[4];
    std::snprintf(hex, sizeof hex, " %02x", byte);
    found += hex;
  }
  return Error(Code::kUnsupported, "not a JPEG or PNG: starts with" + found);
}

}  // namespace facet
