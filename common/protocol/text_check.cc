#include "common/protocol/text_check.h"

#include <utf8proc.h>

#include <cstdint>
#include <cstring>

namespace facet {
namespace {

// Bytes of the character at the start of text, or 0 where none begins.
std::size_t character_bytes(std::string_view text) {
  utf8proc_int32_t code_point = 0;
  const auto used = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                     static_cast<utf8proc_ssize_t>(text.size()), &code_point);
  return used > 0 && code_point >= 0 ? static_cast<std::size_t>(used) : 0;
}

}  // namespace

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    std::uint64_t eight = 0;
    if (text.size() >= sizeof eight) {
      std::memcpy(&eight, text.data(), sizeof eight);
      if ((eight & 0x8080808080808080u) == 0) {  // eight ASCII characters at once
        text.remove_prefix(sizeof eight);
        continue;
      }
    }
    const std::size_t used = character_bytes(text);
    if (used == 0) return false;
    text.remove_prefix(used);
  }
  return true;
}

std::string bounded_text(std::string_view text, std::size_t max_bytes) {
  std::string out;
  while (!text.empty()) {
    const std::size_t used = character_bytes(text);
    if (out.size() + (used == 0 ? 1 : used) > max_bytes) break;
    if (used == 0) {
      out += '?';
      text.remove_prefix(1);
    } else {
      out += text.substr(0, used);
      text.remove_prefix(used);
    }
  }
  return out;
}

std::string printable_quote(std::string_view text) {
  static constexpr std::size_t kShown = 64;
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text.substr(0, kShown)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f && c != '"' && c != '\\') {
      out += c;
    } else {
      out += "\\x";
      out += kDigits[byte >> 4];
      out += kDigits[byte & 15];
    }
  }
  return out + (text.size() > kShown ? "\"..." : "\"");
}

}  // namespace facet
