// Prompt segments joined to one valid text that remembers where added tokens may be parsed.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "worker/text/added_tokens.h"
#include "worker/text/regex.h"

namespace facet {

struct TextSegment;

struct PromptText {
  std::string text;
  std::vector<TextMode> modes;  // neighbours differ; the last one ends at text.size()
};

// Joins the segments; invalid UTF-8 becomes U+FFFD, segment by segment.
PromptText join_segments(std::span<const TextSegment> segments);

// The part of `prompt` in `range`, in NFC when `nfc` is set, with the modes that fall in it. Where
// a mode's border is no place to cut for NFC, the characters that normalize together belong to
// the side that does not parse added tokens.
PromptText normalized_part(const PromptText& prompt, ByteRange range, bool nfc);

}  // namespace facet
