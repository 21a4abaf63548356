#include "common/config/byte_size.h"

#include <array>
#include <charconv>
#include <cmath>

namespace facet {
namespace {

struct Unit {
  std::string_view name;
  std::uint64_t bytes;
};

// Largest first, binary before decimal: the order in which format_byte_size() tries them.
constexpr std::array<Unit, 10> kUnits{{{"TiB", 1ull << 40},
                                       {"TB", 1'000'000'000'000},
                                       {"GiB", 1ull << 30},
                                       {"GB", 1'000'000'000},
                                       {"MiB", 1ull << 20},
                                       {"MB", 1'000'000},
                                       {"KiB", 1ull << 10},
                                       {"kB", 1000},
                                       {"KB", 1000},
                                       {"B", 1}}};

// A double is exact up to here (8 PiB), and no host has more.
constexpr double kMaxBytes = 9007199254740992.0;

std::string_view trim(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

Error bad_size(std::string_view text) {
  return Error(Code::kInvalidArgument,
               "\"" + std::string(text) + "\" is not a size such as \"512MiB\" or \"15GB\"");
}

}  // namespace

Result<std::uint64_t> parse_byte_size(std::string_view text) {
  const std::string_view trimmed = trim(text);
  // from_chars also knows "inf", "nan" and "-1": a size starts with a digit.
  if (trimmed.empty() || trimmed[0] < '0' || trimmed[0] > '9') return bad_size(text);
  double number = 0;
  const char* end = trimmed.data() + trimmed.size();
  const auto parsed = std::from_chars(trimmed.data(), end, number, std::chars_format::fixed);
  if (parsed.ec != std::errc()) return bad_size(text);
  const std::string_view unit_name = trim({parsed.ptr, static_cast<std::size_t>(end - parsed.ptr)});
  std::uint64_t unit_bytes = unit_name.empty() ? 1 : 0;
  for (const Unit& unit : kUnits) {
    if (unit.name == unit_name) unit_bytes = unit.bytes;
  }
  if (unit_bytes == 0) return bad_size(text);
  const double bytes = number * static_cast<double>(unit_bytes);
  if (!(bytes <= kMaxBytes)) return bad_size(text);
  return static_cast<std::uint64_t>(std::llround(bytes));
}

Result<std::vector<std::uint64_t>> parse_byte_sizes(std::string_view text) {
  std::vector<std::uint64_t> sizes;
  std::size_t begin = 0;
  while ((begin = text.find_first_not_of(" \t,", begin)) != std::string_view::npos) {
    const std::size_t end = text.find_first_of(" \t,", begin);
    sizes.push_back(FACET_TRY(parse_byte_size(text.substr(begin, end - begin))));
    if (end == std::string_view::npos) break;
    begin = end;
  }
  return sizes;
}

std::string format_byte_size(std::uint64_t bytes) {
  for (const Unit& unit : kUnits) {
    if (bytes != 0 && bytes % unit.bytes == 0) {
      return std::to_string(bytes / unit.bytes) + std::string(unit.name);
    }
  }
  return "0B";
}

}  // namespace facet
