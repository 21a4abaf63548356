#include "broker/decoder/image_header.h"

#include <algorithm>
#include <cstdio>
#include <string>

#include "broker/decoder/format_headers.h"

namespace facet {
namespace {

Result<ImageInfo> finish(const RawHeader& header, const ImageLimits& limits) {
  ImageInfo info = header.info;
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
  info.orientation = header.orientation.value();
  info.width = info.stored_width;
  info.height = info.stored_height;
  if (info.orientation >= 5) std::swap(info.width, info.height);
  return info;
}

// Formats that people send and that no decoder here reads.
std::string_view name_of_foreign(EncodedBytes encoded) {
  if (starts_with(encoded, "GIF87a") || starts_with(encoded, "GIF89a")) return "GIF";
  if (starts_with(encoded, std::string_view("II*\0", 4)) ||
      starts_with(encoded, std::string_view("MM\0*", 4))) {
    return "TIFF";
  }
  if (starts_with(encoded, "BM")) return "BMP";
  if (encoded.size() >= 12 && starts_with(encoded.subspan(4), "ftyp")) return "HEIF or AVIF";
  if (starts_with(encoded, "%PDF-")) return "PDF";
  return {};
}

Error not_an_image(EncodedBytes encoded) {
  const std::string_view name = name_of_foreign(encoded);
  if (!name.empty()) {
    return {Code::kUnsupported,
            std::string(name) + " is not supported: only JPEG, PNG and WebP can be read"};
  }
  std::string found;
  for (const std::uint8_t byte : encoded.first(std::min<std::size_t>(encoded.size(), 4))) {
    char hex[4];
    std::snprintf(hex, sizeof hex, " %02x", byte);
    found += hex;
  }
  return {Code::kUnsupported, "not a JPEG, PNG or WebP: starts with" + found};
}

}  // namespace

std::string_view format_name(ImageFormat format) {
  switch (format) {
    case ImageFormat::kJpeg:
      return "JPEG";
    case ImageFormat::kPng:
      return "PNG";
    case ImageFormat::kWebp:
      return "WebP";
  }
  return "?";
}

Result<ImageInfo> read_image_header(std::span<const std::uint8_t> encoded,
                                    const ImageLimits& limits) {
  if (encoded.empty()) return damaged("the image is empty");
  if (starts_with(encoded, "\xff\xd8\xff")) {
    return finish(FACET_TRY(read_jpeg_header(encoded)), limits);
  }
  if (starts_with(encoded, "\x89PNG\r\n\x1a\n")) {
    return finish(FACET_TRY(read_png_header(encoded)), limits);
  }
  if (encoded.size() >= 12 && starts_with(encoded, "RIFF") &&
      starts_with(encoded.subspan(8), "WEBP")) {
    return finish(FACET_TRY(read_webp_header(encoded)), limits);
  }
  return not_an_image(encoded);
}

}  // namespace facet
