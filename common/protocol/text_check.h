// Text that crosses a process boundary: valid UTF-8, of bounded length.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace facet {

// Well-formed UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF.
bool is_utf8(std::string_view text);

// At most max_bytes of text, cut between characters; bytes that are not UTF-8 become '?'.
std::string bounded_text(std::string_view text, std::size_t max_bytes);

// For error messages that quote a stranger: printable ASCII as it is, other bytes as \xNN,
// at most 64 bytes of the source and then "...".
std::string printable_quote(std::string_view text);

}  // namespace facet
