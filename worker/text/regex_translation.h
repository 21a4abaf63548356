// Regular expressions of tokenizer.json are written for Oniguruma (Ruby's syntax, Unicode 16).
#pragma once

#include <string>
#include <string_view>

#include "common/base/result.h"

namespace facet {

// The same expression for PCRE2 with UTF and UCP. \s, \d and \p{..} are spelled out so that they
// hold exactly Oniguruma's characters. Anything whose meaning could differ between the two engines
// (anchors, \w, \b, {n}+, sets in classes, ...) is refused by name with kUnsupported.
Result<std::string> translate_oniguruma(std::string_view pattern);

}  // namespace facet
