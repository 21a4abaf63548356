// How deep a JSON text nests, before anything is built from it: parsers and printers that recurse
// run out of stack on "[[[[...".
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace facet {

inline constexpr std::size_t kMaxJsonDepth = 64;  // model files need 8

// Counts brackets outside of strings; `text` need not be valid JSON.
constexpr bool is_json_too_deep(std::string_view text, std::size_t max_depth = kMaxJsonDepth) {
  std::size_t depth = 0;
  bool is_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (is_string) {
      if (c == '\\') ++i;
      if (c == '"') is_string = false;
    } else if (c == '"') {
      is_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > max_depth) return true;
    } else if ((c == ']' || c == '}') && depth > 0) {
      --depth;
    }
  }
  return false;
}

// kCorrupt: `text` nests deeper than kMaxJsonDepth. `where` begins the message.
inline Status check_json_depth(std::string_view text, const std::string& where) {
  if (!is_json_too_deep(text)) return {};
  return Error(Code::kCorrupt,
               where + ": JSON nested deeper than " + std::to_string(kMaxJsonDepth));
}

}  // namespace facet
