// What the core needs from rooms it must not depend on. The service plugs in the real ones,
// tests and the simulator their own.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

#include "common/base/result.h"
#include "common/protocol/messages.h"

namespace facet {

// What an encoded image's header says. Never decodes pixels.
struct ProbedImage {
  std::uint32_t format = 0;  // ImageFormat of the decoder, passed on in DecodeJob
  std::uint32_t width = 0;   // after EXIF orientation
  std::uint32_t height = 0;
};

struct CoreSeams {
  // Reads an image header. An Error's message says what is wrong with the image.
  std::function<Result<ProbedImage>(std::span<const std::uint8_t> encoded)> probe_image;
  // Reads ClientGenerate::body back; used when a broker takes over a ledger.
  std::function<Result<GenerateRequest>(std::string_view body)> parse_request;
};

}  // namespace facet
