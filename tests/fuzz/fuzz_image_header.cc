// The only reader of image bytes in the broker itself: any bytes, whole or cut, are safe.
#include "broker/decoder/image_header.h"
#include "common/base/check.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/guarded_bytes.h"

namespace facet::fuzz {
namespace {

constexpr std::size_t kMaxInput = 1 << 16;
constexpr std::string_view kPlaces[] = {"JPEG", "PNG",        "WebP",       "animated WebP",
                                        "GIF",  "TIFF",       "BMP",        "HEIF",
                                        "PDF",  "not a JPEG", "image file", "the image"};

void check_info(const ImageInfo& info, const ImageLimits& limits) {
  FACET_CHECK(info.width > 0 && info.height > 0);
  FACET_CHECK(std::max(info.width, info.height) <= limits.max_side);
  FACET_CHECK(std::uint64_t{info.width} * info.height <= limits.max_pixels);
  FACET_CHECK(info.orientation >= 1 && info.orientation <= 8);
  const bool is_turned = info.orientation >= 5;
  FACET_CHECK(info.stored_width == (is_turned ? info.height : info.width));
  FACET_CHECK(info.stored_height == (is_turned ? info.width : info.height));
  FACET_CHECK(info.channels >= 1 && info.channels <= 4);
  FACET_CHECK(info.rgb_bytes() == std::uint64_t{3} * info.width * info.height);
  FACET_CHECK((!info.is_palette && !info.is_16bit) || info.format == ImageFormat::kPng);
}

}  // namespace

std::vector<std::string> seeds() {
  return {"GIF89a", "II*\0", "BM", "%PDF-1",
          std::string("\0\0\0\x18"
                      "ftypheic",
                      12)};
}

void run_one(std::string_view input) {
  if (input.size() > kMaxInput) return;
  static GuardedBytes memory(kMaxInput);
  const auto encoded = memory.copy_of(input);
  const auto info = read_image_header(encoded);
  if (!info) return check_refusal(info.error(), 240, kPlaces);
  check_info(*info, {});
  // The limits are exact: what fits passes them, one pixel or one row less does not.
  const ImageLimits exact{std::max(info->width, info->height),
                          std::uint64_t{info->width} * info->height};
  FACET_CHECK(read_image_header(encoded, exact));
  const auto large = read_image_header(encoded, {exact.max_side, exact.max_pixels - 1});
  FACET_CHECK(!large && large.error().code == Code::kTooLarge);
  const auto wide = read_image_header(encoded, {exact.max_side - 1, exact.max_pixels});
  FACET_CHECK(!wide && wide.error().code == Code::kTooLarge);
  check_refusal(wide.error(), 240, kPlaces);
}

}  // namespace facet::fuzz
