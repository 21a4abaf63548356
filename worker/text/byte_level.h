// The byte-level alphabet of GPT-2: every byte is written as one printable character, so that
// a vocabulary can be text. Bytes that print stand for themselves; the others are U+0100 and up.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace facet {

// The character that stands for a byte, as UTF-8 (one or two bytes).
std::string_view byte_level_character(std::uint8_t byte);

std::string to_byte_level(std::string_view bytes);

// The bytes a token stands for. A token with any character outside the alphabet stands for its own
// UTF-8 (the rule of the reference's ByteLevel decoder, for added tokens too).
std::string from_byte_level(std::string_view token);

}  // namespace facet
