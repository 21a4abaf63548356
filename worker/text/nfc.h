// Unicode normalization form C, as the reference tokenizer computes it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace facet {

// NFC of valid UTF-8. The `tokenizers` package normalizes with the tables of Unicode 9: marks that
// are younger stand still there (combining class 0, no composition), and so they do here.
std::string normalize_nfc(std::string_view text);

// True when text may be cut before this character: NFC(a + b) = NFC(a) + NFC(b) for every a and
// every b that begins with it. Conservative: false for all marks and the joining Hangul letters.
bool is_nfc_boundary(std::uint32_t code_point);

}  // namespace facet
