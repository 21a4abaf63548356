#include <string>

#include "broker/decoder/exif_orientation.h"
#include "broker/decoder/format_headers.h"

namespace facet {
namespace {

constexpr std::size_t kMaxSegments = 4096;  // before the first scan; real files: dozens

bool is_frame_header(std::uint8_t marker) {  // SOF0..15; C4, C8 and CC are something else
  return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
}

Status read_frame_header(std::uint8_t marker, EncodedBytes body, ImageInfo& info) {
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

void read_app1(EncodedBytes body, Orientation& orientation) {
  constexpr std::string_view kXmp("http://ns.adobe.com/xap/1.0/\0", 29);
  if (starts_with(body, kExifPrefix)) {
    while (starts_with(body, kExifPrefix)) body = body.subspan(kExifPrefix.size());
    if (!orientation.exif) orientation.exif = read_exif_orientation(body);
  } else if (starts_with(body, kXmp)) {
    orientation.xmp = read_xmp_orientation(body.subspan(kXmp.size()));
  }
}

}  // namespace

Result<RawHeader> read_jpeg_header(EncodedBytes encoded) {
  ImageInfo info;
  info.format = ImageFormat::kJpeg;
  Orientation orientation;
  bool has_frame = false;
  std::size_t at = 2;
  for (std::size_t segment = 0; segment < kMaxSegments; ++segment) {
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
    const EncodedBytes body = encoded.subspan(at + 2, length - 2);
    at += length;
    if (is_frame_header(marker)) {
      if (has_frame) return damaged("JPEG has two frame headers");
      FACET_TRY_STATUS(read_frame_header(marker, body, info));
      has_frame = true;
    } else if (marker == 0xe1) {
      read_app1(body, orientation);
    } else if (marker == 0xda) {
      if (!has_frame) return damaged("JPEG has no frame header before its first scan");
      return RawHeader{info, orientation};
    }
  }
  return damaged("JPEG has more than " + std::to_string(kMaxSegments) +
                 " segments before its first scan");
}

}  // namespace facet
