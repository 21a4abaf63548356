// UTF-8 as Python and Rust read it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace facet {

// What stands at the front of some bytes.
struct Utf8Step {
  enum class Kind { kCharacter, kInvalid, kIncomplete };
  Kind kind = Kind::kInvalid;
  std::uint32_t code_point = 0;  // of a character
  std::size_t num_bytes = 0;     // of the character or the invalid run; kIncomplete: all
};

// Reads one step of `bytes`, which must not be empty. An invalid run is a "maximal subpart"
// (Unicode 15, section 3.9, practice of U+FFFD): what Python's errors="replace" and Rust's
// from_utf8_lossy replace by one U+FFFD. kIncomplete: a valid beginning that the end cuts off.
Utf8Step read_utf8(std::string_view bytes);

void append_utf8(std::uint32_t code_point, std::string& out);

bool is_valid_utf8(std::string_view bytes);

// Every invalid run, an incomplete end too, becomes U+FFFD.
std::string replace_invalid_utf8(std::string_view bytes);

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

}  // namespace facet
