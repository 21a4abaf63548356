#include "worker/text/prompt_text.h"

#include <algorithm>

#include "worker/text/nfc.h"
#include "worker/text/tokenizer.h"
#include "worker/text/utf8.h"

namespace facet {
namespace {

void append(std::string_view text, bool parse, PromptText& out) {
  if (text.empty()) return;
  out.text += text;
  if (!out.modes.empty() && out.modes.back().parse_added_tokens == parse) {
    out.modes.back().end = out.text.size();
  } else {
    out.modes.push_back({out.text.size(), parse});
  }
}

bool can_cut(std::string_view text, std::size_t at) {
  return at >= text.size() || is_nfc_boundary(read_utf8(text.substr(at)).code_point);
}

std::size_t cut_after(std::string_view text, std::size_t at) {
  while (!can_cut(text, at)) at += read_utf8(text.substr(at)).num_bytes;
  return at;
}

std::size_t cut_before(std::string_view text, std::size_t at, std::size_t not_before) {
  do {
    --at;
  } while (at > not_before && ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80 ||
                               !can_cut(text, at)));
  return at;
}

}  // namespace

PromptText join_segments(std::span<const TextSegment> segments) {
  PromptText out;
  for (const TextSegment& segment : segments) {
    if (is_valid_utf8(segment.text)) {
      append(segment.text, segment.parse_added_tokens, out);
    } else {
      append(replace_invalid_utf8(segment.text), segment.parse_added_tokens, out);
    }
  }
  return out;
}

PromptText normalized_part(const PromptText& prompt, ByteRange range, bool nfc) {
  const std::string_view text = std::string_view(prompt.text).substr(0, range.end);
  PromptText out;
  std::size_t begin = range.begin;
  for (const TextMode& mode : prompt.modes) {
    if (mode.end <= begin) continue;
    std::size_t end = std::min(mode.end, range.end);
    if (nfc && !can_cut(text, end)) {
      end = mode.parse_added_tokens ? cut_before(text, end, begin) : cut_after(text, end);
    }
    const std::string_view part = text.substr(begin, end - begin);
    append(nfc ? normalize_nfc(part) : std::string(part), mode.parse_added_tokens, out);
    begin = end;
    if (mode.end >= range.end) break;
  }
  return out;
}

}  // namespace facet
