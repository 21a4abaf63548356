#include "worker/text/byte_level.h"

#include <array>

#include "worker/text/utf8.h"

namespace facet {
namespace {

constexpr std::uint32_t kAlphabetEnd = 0x144;  // 256 + 68 bytes that do not print

struct Alphabet {
  std::array<std::string, 256> characters;
  std::array<int, kAlphabetEnd> bytes;  // by code point; -1: not of the alphabet

  Alphabet() {
    bytes.fill(-1);
    std::uint32_t next = 256;
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
      const bool prints = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) ||
                          byte >= 0xAE;
      const std::uint32_t code_point = prints ? byte : next++;
      append_utf8(code_point, characters[byte]);
      bytes[code_point] = static_cast<int>(byte);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet instance;
  return instance;
}

}  // namespace

std::string_view byte_level_character(std::uint8_t byte) { return alphabet().characters[byte]; }

std::string to_byte_level(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char byte : bytes) out += byte_level_character(static_cast<std::uint8_t>(byte));
  return out;
}

std::string from_byte_level(std::string_view token) {
  std::string out;
  for (std::string_view rest = token; !rest.empty();) {
    const Utf8Step step = read_utf8(rest);
    const int byte = step.code_point < kAlphabetEnd ? alphabet().bytes[step.code_point] : -1;
    if (step.kind != Utf8Step::Kind::kCharacter || byte < 0) return std::string(token);
    out.push_back(static_cast<char>(byte));
    rest.remove_prefix(step.num_bytes);
  }
  return out;
}

}  // namespace facet
