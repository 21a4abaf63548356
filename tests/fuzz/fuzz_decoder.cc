// One decoder, FACET_FUZZ_FORMAT: encoded bytes to pixels as a child of facet-decoder runs it.
// Nothing is read or written outside of the two runs, every pixel of an image that was decoded was
// written, and the broker's header reader and the codec agree on the size.
#include "broker/decoder/decode_image.h"
#include "common/base/check.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/guarded_bytes.h"

namespace facet::fuzz {
namespace {

constexpr ImageFormat kFormat = ImageFormat::FACET_FUZZ_FORMAT;
constexpr ImageLimits kLimits{2048, 96 * 96};  // small: many images a second
constexpr std::size_t kMaxInput = 1 << 16;
constexpr std::string_view kAnywhere[] = {""};

}  // namespace

std::vector<std::string> seeds() {
  return {};
}  // image_seeds.py makes them

void run_one(std::string_view input) {
  if (input.size() > kMaxInput) return;
  static GuardedBytes encoded_memory(kMaxInput);
  static GuardedBytes pixel_memory(3 * kLimits.max_pixels);
  const auto encoded = encoded_memory.copy_of(input);
  const auto info = read_image_header(encoded, kLimits);
  if (!info || info->format != kFormat) return;  // fuzz_image_header asks those
  Status first;
  std::vector<std::uint8_t> seen;
  for (const std::uint8_t fill : {0x00, 0xff}) {
    const auto pixels = pixel_memory.take(info->rgb_bytes(), fill);
    const Status status = decode_image(encoded, info->width, info->height, pixels);
    GuardedBytes::check_margin(pixels);
    FACET_CHECK_MSG(std::equal(input.begin(), input.end(), encoded.begin(),
                               [](char a, std::uint8_t b) { return std::uint8_t(a) == b; }),
                    "the encoded bytes were changed");
    if (fill == 0x00) {
      first = status;
      seen.assign(pixels.begin(), pixels.end());
      continue;
    }
    FACET_CHECK_MSG(first.has_value() == status.has_value(), "decoded once, refused once");
    FACET_CHECK_MSG(!status || std::equal(seen.begin(), seen.end(), pixels.begin()),
                    "a pixel that nobody wrote");
  }
  if (!first) return check_refusal(first.error(), 240, kAnywhere);
  // A job of any other size than the header's is refused.
  const auto other = pixel_memory.take(3 * std::size_t{info->width}, 0);
  FACET_CHECK_MSG(info->height == 1 || !decode_image(encoded, info->width, 1, other),
                  "a job smaller than the image");
}

}  // namespace facet::fuzz
