#include <optional>
#include <string>

#include "broker/decoder/exif_orientation.h"
#include "broker/decoder/format_headers.h"

namespace facet {
namespace {

// A RIFF file: "RIFF" size "WEBP", then chunks of type, size, body and a byte of padding after an
// odd size. Three kinds by their first chunk: "VP8 " lossy, "VP8L" lossless, "VP8X" extended, which
// alone may carry alpha beside lossy pixels, frames and metadata. RFC 9649.
constexpr std::size_t kMaxChunks = 1 << 16;

// Flags of VP8X.
constexpr std::uint8_t kIsAnimated = 0x02;
constexpr std::uint8_t kHasXmp = 0x04;
constexpr std::uint8_t kHasExif = 0x08;
constexpr std::uint8_t kHasAlpha = 0x10;

struct Chunk {
  EncodedBytes type;
  EncodedBytes body;
};

// The chunk at `at`, which moves behind it. The errors of a file that ends too early.
Result<Chunk> next_chunk(EncodedBytes file, std::size_t& at) {
  if (file.size() - at < 8) return damaged("WebP ends within a chunk's header");
  const std::size_t size = read_le32(file, at + 4);
  const std::size_t padded = size + (size & 1);
  if (padded > file.size() - at - 8) return damaged("WebP chunk reaches past the end of the file");
  const Chunk chunk{file.subspan(at, 4), file.subspan(at + 8, size)};
  at += 8 + padded;
  return chunk;
}

Status read_lossy(EncodedBytes body, ImageInfo& info) {
  if (body.size() < 10) return damaged("WebP frame header is truncated");
  if ((body[0] & 1) != 0 || !starts_with(body.subspan(3), "\x9d\x01\x2a")) {
    return damaged("WebP does not begin with a key frame");
  }
  // 14 bits of size under two bits of a scale that no decoder applies.
  info.stored_width = read_le32(body, 6) & 0x3fff;
  info.stored_height = read_le32(body, 6) >> 16 & 0x3fff;
  info.channels = 3;
  return {};
}

Status read_lossless(EncodedBytes body, ImageInfo& info) {
  if (body.size() < 5) return damaged("WebP frame header is truncated");
  const std::uint32_t bits = read_le32(body, 1);
  if (body[0] != 0x2f || bits >> 29 != 0) return damaged("WebP has no lossless frame header");
  info.stored_width = (bits & 0x3fff) + 1;
  info.stored_height = (bits >> 14 & 0x3fff) + 1;
  info.channels = (bits >> 28 & 1) != 0 ? 4 : 3;
  return {};
}

Error refuse_animation(EncodedBytes file, std::size_t at) {
  std::size_t num_frames = 0;
  for (std::size_t i = 0; i < kMaxChunks && at < file.size(); ++i) {
    const auto chunk = next_chunk(file, at);
    if (!chunk) break;
    if (starts_with(chunk->type, "ANMF")) ++num_frames;
  }
  return {Code::kUnsupported, "animated WebP: " + std::to_string(num_frames) +
                                  (num_frames == 1 ? " frame is" : " frames are") +
                                  " not supported"};
}

// Metadata counts only when the flags announce it, its first chunk alone: as in libwebp's demuxer.
Status read_extended(EncodedBytes file, EncodedBytes body, std::size_t at, RawHeader& header) {
  if (body.size() < 10) return damaged("WebP frame header is truncated");
  const std::uint8_t flags = body[0];
  if ((flags & kIsAnimated) != 0) return refuse_animation(file, at);
  header.info.stored_width = read_le24(body, 4) + 1;
  header.info.stored_height = read_le24(body, 7) + 1;
  header.info.channels = (flags & kHasAlpha) != 0 ? 4 : 3;
  bool has_exif = false;
  bool has_xmp = false;
  for (std::size_t i = 0; i < kMaxChunks && at < file.size(); ++i) {
    const Chunk chunk = FACET_TRY(next_chunk(file, at));
    if (starts_with(chunk.type, "EXIF") && (flags & kHasExif) != 0 && !has_exif) {
      has_exif = true;
      EncodedBytes tiff = chunk.body;
      while (starts_with(tiff, kExifPrefix)) tiff = tiff.subspan(kExifPrefix.size());
      header.orientation.exif = read_exif_orientation(tiff);
    } else if (starts_with(chunk.type, "XMP ") && (flags & kHasXmp) != 0 && !has_xmp) {
      has_xmp = true;
      header.orientation.xmp = read_xmp_orientation(chunk.body);
    }
  }
  return {};
}

}  // namespace

Result<RawHeader> read_webp_header(EncodedBytes encoded) {
  if (encoded.size() < 20) return damaged("WebP header is truncated");
  const std::uint64_t file_bytes = std::uint64_t{8} + read_le32(encoded, 4);
  if (file_bytes > encoded.size()) {
    return damaged("image file is truncated: WebP header says " + std::to_string(file_bytes) +
                   " bytes, there are " + std::to_string(encoded.size()));
  }
  if (file_bytes < 20) return damaged("WebP header says " + std::to_string(file_bytes) + " bytes");
  const EncodedBytes file = encoded.first(file_bytes);
  RawHeader header;
  header.info.format = ImageFormat::kWebp;
  std::size_t at = 12;
  const Chunk first = FACET_TRY(next_chunk(file, at));
  if (starts_with(first.type, "VP8 ")) {
    FACET_TRY_STATUS(read_lossy(first.body, header.info));
  } else if (starts_with(first.type, "VP8L")) {
    FACET_TRY_STATUS(read_lossless(first.body, header.info));
  } else if (starts_with(first.type, "VP8X")) {
    FACET_TRY_STATUS(read_extended(file, first.body, at, header));
  } else {
    return damaged("WebP begins with neither VP8, VP8L nor VP8X");
  }
  return header;
}

}  // namespace facet
