// Characters younger than Debian 12's PCRE2 (Unicode 14) that the reference's regular expression
// engine (Oniguruma with Unicode 16) already knows.
#pragma once

#include <string>
#include <string_view>

namespace facet {

// The characters of a general category ("L", "N", "Lu", ...) assigned since Unicode 15, as the
// inside of a PCRE2 character class: "\x{1C89}-\x{1C89}...". Empty when there are none.
std::string unicode_additions(std::string_view category);

}  // namespace facet
