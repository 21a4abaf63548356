#include "broker/decoder/exif_orientation.h"

#include <string_view>

namespace facet {
namespace {

constexpr std::uint32_t kOrientationTag = 274;

class TiffReader {
 public:
  TiffReader(std::span<const std::uint8_t> bytes, bool big_endian)
      : bytes_(bytes), big_endian_(big_endian) {}

  // Little or big endian number of 1 to 4 bytes; nullopt past the end.
  std::optional<std::uint32_t> number(std::size_t offset, std::size_t width) const {
    if (offset > bytes_.size() || width > bytes_.size() - offset) return std::nullopt;
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < width; ++i) {
      const std::size_t at = big_endian_ ? offset + i : offset + width - 1 - i;
      value = value << 8 | bytes_[at];
    }
    return value;
  }

 private:
  std::span<const std::uint8_t> bytes_;
  bool big_endian_;
};

// Bytes of one value of a TIFF field type that holds whole numbers; 0 for the others.
std::size_t integer_width(std::uint32_t type) {
  switch (type) {
    case 3:   // SHORT
    case 8:   // SSHORT
      return 2;
    case 4:   // LONG
    case 9:   // SLONG
    case 13:  // IFD
      return 4;
    case 6:   // SBYTE
      return 1;
    default:
      return 0;
  }
}

}  // namespace

std::optional<std::uint32_t> read_exif_orientation(std::span<const std::uint8_t> tiff) {
  if (tiff.size() < 8) return std::nullopt;
  const bool big_endian = tiff[0] == 'M' && tiff[1] == 'M';
  if (!big_endian && !(tiff[0] == 'I' && tiff[1] == 'I')) return std::nullopt;
  if (tiff[2] + tiff[3] != 42) return std::nullopt;
  const TiffReader reader(tiff, big_endian);
  const std::size_t directory = *reader.number(4, 4);
  const auto num_entries = reader.number(directory, 2);
  if (!num_entries) return std::nullopt;
  for (std::size_t i = 0; i < *num_entries; ++i) {
    const std::size_t entry = directory + 2 + 12 * i;
    const auto tag = reader.number(entry, 2);
    const auto type = reader.number(entry + 2, 2);
    const auto count = reader.number(entry + 4, 4);
    const auto inline_value = reader.number(entry + 8, 4);
    if (!tag || !type || !count || !inline_value) return std::nullopt;
    if (*tag != kOrientationTag || *count == 0) continue;
    const std::size_t width = integer_width(*type);
    if (width == 0) continue;
    // Up to four bytes of values lie in the entry, more lie at the offset that it gives.
    const bool is_inline = std::uint64_t{width} * *count <= 4;
    return reader.number(is_inline ? entry + 8 : *inline_value, width);
  }
  return std::nullopt;
}

std::optional<std::uint32_t> read_xmp_orientation(std::span<const std::uint8_t> packet) {
  const std::string_view text(reinterpret_cast<const char*>(packet.data()), packet.size());
  constexpr std::string_view kName = "tiff:Orientation";
  for (std::size_t at = text.find(kName); at != text.npos; at = text.find(kName, at + 1)) {
    std::string_view rest = text.substr(at + kName.size());
    if (rest.starts_with("=\"")) {
      rest.remove_prefix(2);
    } else if (rest.starts_with(">")) {
      rest.remove_prefix(1);
    } else {
      continue;
    }
    if (!rest.empty() && rest[0] >= '0' && rest[0] <= '9') {
      return static_cast<std::uint32_t>(rest[0] - '0');
    }
  }
  return std::nullopt;
}

}  // namespace facet
