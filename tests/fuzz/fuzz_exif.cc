// The orientation in EXIF and XMP: one TIFF stream means the same in a JPEG, a PNG and a WebP.
#include "broker/decoder/exif_orientation.h"
#include "broker/decoder/format_headers.h"
#include "common/base/check.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/guarded_bytes.h"

namespace facet::fuzz {
namespace {

constexpr std::size_t kMaxInput = 4096;

std::string big_endian(std::size_t value, int bytes) {
  std::string text;
  for (int i = bytes - 1; i >= 0; --i) text += static_cast<char>(value >> (8 * i));
  return text;
}

std::string little_endian(std::size_t value) {
  const std::string text = big_endian(value, 4);
  return {text.rbegin(), text.rend()};
}

std::string jpeg_with(std::string_view tiff) {
  const std::string frame("\xff\xc0\0\x11\x08\0\x05\0\x07\x03\x01\x22\0\x02\x11\x01\x03\x11\x01",
                          19);
  return "\xff\xd8\xff\xe1" + big_endian(tiff.size() + 8, 2) + std::string("Exif\0\0", 6) +
         std::string(tiff) + frame + std::string("\xff\xda\0\x02", 4);
}

std::string png_with(std::string_view tiff) {
  const auto chunk = [](std::string_view type, std::string_view body) {
    return big_endian(body.size(), 4) + std::string(type) + std::string(body) + "crc.";
  };
  return "\x89PNG\r\n\x1a\n" + chunk("IHDR", {"\0\0\0\x07\0\0\0\x05\x08\x02\0\0\0", 13}) +
         chunk("eXIf", tiff) + chunk("IEND", "");
}

std::string webp_with(std::string_view tiff) {
  std::string chunks = "WEBP";
  const auto add = [&](std::string_view type, std::string_view body) {
    chunks += std::string(type) + little_endian(body.size()) + std::string(body);
    if (body.size() % 2 == 1) chunks += '\0';
  };
  add("VP8X", {"\x08\0\0\0\x06\0\0\x04\0\0", 10});
  add("EXIF", tiff);
  return "RIFF" + little_endian(chunks.size()) + chunks;
}

EncodedBytes as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

std::string tiff_seed(bool is_big, char type, char value) {
  std::string tiff =
      is_big ? std::string("MM\0*\0\0\0\x08\0\x02", 10) : std::string("II*\0\x08\0\0\0\x02\0", 10);
  const auto number = [&](std::uint32_t n, int bytes) {
    const std::string text = big_endian(n, bytes);
    return is_big ? text : std::string(text.rbegin(), text.rend());
  };
  tiff += number(256, 2) + number(4, 2) + number(1, 4) + number(7, 4);
  tiff += number(274, 2) + number(static_cast<std::uint32_t>(type), 2) + number(1, 4);
  tiff += type == 3 ? number(static_cast<std::uint32_t>(value), 2) + std::string(2, '\0')
                    : number(static_cast<std::uint32_t>(value), 4);
  return tiff + std::string(4, '\0');
}

}  // namespace

std::vector<std::string> seeds() {
  return {tiff_seed(true, 3, 6),         tiff_seed(false, 3, 8),
          tiff_seed(false, 4, 3),        tiff_seed(true, 13, 2),
          "<x tiff:Orientation=\"6\"/>", "<tiff:Orientation>5</tiff:Orientation>"};
}

void run_one(std::string_view input) {
  if (input.size() > kMaxInput) return;
  static GuardedBytes memory(kMaxInput);
  const auto bytes = memory.copy_of(input);
  const auto xmp = read_xmp_orientation(bytes);
  FACET_CHECK(!xmp || *xmp <= 9);
  EncodedBytes tiff = bytes;
  while (starts_with(tiff, kExifPrefix)) tiff = tiff.subspan(kExifPrefix.size());
  const std::uint32_t wanted = Orientation{read_exif_orientation(tiff), std::nullopt}.value();
  for (const std::string& file : {jpeg_with(input), png_with(input), webp_with(input)}) {
    const auto info = read_image_header(as_bytes(file));
    FACET_CHECK_MSG(info, info.error().message.c_str());
    FACET_CHECK_MSG(info->orientation == wanted, format_name(info->format).data());
    FACET_CHECK(info->stored_width == 7 && info->stored_height == 5);
    FACET_CHECK(info->width == (wanted >= 5 ? 5u : 7u));
  }
}

}  // namespace facet::fuzz
