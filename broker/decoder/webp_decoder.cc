#include "broker/decoder/webp_decoder.h"

#include <vector>

#include <webp/decode.h>

namespace facet {
namespace {

Error refusal(VP8StatusCode status) {
  switch (status) {
    case VP8_STATUS_OUT_OF_MEMORY:
      return {Code::kTooLarge, "image needs more memory than allowed"};
    case VP8_STATUS_NOT_ENOUGH_DATA:
    case VP8_STATUS_SUSPENDED:
      return {Code::kInvalidArgument, "image file is truncated"};
    case VP8_STATUS_UNSUPPORTED_FEATURE:
      return {Code::kUnsupported, "WebP has a feature that cannot be read"};
    default:
      return {Code::kInvalidArgument, "WebP data is damaged"};
  }
}

}  // namespace

Status decode_webp(std::span<const std::uint8_t> encoded, const ImageInfo& info,
                   OrientedRows& rows) {
  WebPDecoderConfig config;
  if (WebPInitDecoderConfig(&config) == 0) return Error(Code::kInternal, "libwebp has another ABI");
  const VP8StatusCode seen = WebPGetFeatures(encoded.data(), encoded.size(), &config.input);
  if (seen != VP8_STATUS_OK) return refusal(seen);
  if (static_cast<std::uint32_t>(config.input.width) != info.stored_width ||
      static_cast<std::uint32_t>(config.input.height) != info.stored_height) {
    return Error(Code::kInvalidArgument, "WebP has another size than its header says");
  }
  const std::size_t row_bytes = std::size_t{3} * info.stored_width;
  const std::size_t total_bytes = row_bytes * info.stored_height;
  std::vector<std::uint8_t> stored(rows.is_upright() ? 0 : total_bytes);
  config.output.colorspace = MODE_RGB;
  config.output.is_external_memory = 1;
  config.output.u.RGBA.rgba = rows.is_upright() ? rows.upright_row(0) : stored.data();
  config.output.u.RGBA.stride = static_cast<int>(row_bytes);
  config.output.u.RGBA.size = total_bytes;
  const VP8StatusCode status = WebPDecode(encoded.data(), encoded.size(), &config);
  WebPFreeDecBuffer(&config.output);
  if (status != VP8_STATUS_OK) return refusal(status);
  if (rows.is_upright()) return {};
  for (std::uint32_t y = 0; y < info.stored_height; ++y) rows.put(y, stored.data() + row_bytes * y);
  return {};
}

}  // namespace facet
