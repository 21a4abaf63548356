#include "worker/text/added_tokens.h"

#include <algorithm>

#include "worker/text/unicode_additions.h"
#include "worker/text/utf8.h"

namespace facet {
namespace {

bool is_white_space(std::uint32_t c) {
  return (c >= 0x9 && c <= 0xD) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

std::size_t previous_character(std::string_view text, std::size_t at) {
  do {
    --at;
  } while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
  return at;
}

std::size_t blanks_begin(std::string_view text, std::size_t at, std::size_t not_before) {
  while (at > not_before) {
    const std::size_t before = previous_character(text, at);
    if (!is_white_space(read_utf8(text.substr(before)).code_point)) break;
    at = before;
  }
  return at;
}

std::size_t blanks_end(std::string_view text, std::size_t at) {
  while (at < text.size()) {
    const Utf8Step step = read_utf8(text.substr(at));
    if (!is_white_space(step.code_point)) break;
    at += step.num_bytes;
  }
  return at;
}

// \w of the reference's regex engine: Alphabetic, marks, decimal digits, connectors, joiners.
std::string word_pattern() {
  return "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200C}\\x{200D}" + unicode_additions("L") +
         unicode_additions("M") + unicode_additions("Nd") + "]";
}

}  // namespace

Result<AddedTokenMatcher> AddedTokenMatcher::create(std::vector<AddedToken> tokens) {
  AddedTokenMatcher matcher(FACET_TRY(Regex::compile_pcre2(word_pattern())));
  std::erase_if(tokens, [](const AddedToken& token) { return token.content.empty(); });
  matcher.tokens_ = std::move(tokens);
  matcher.nodes_.emplace_back();
  for (std::size_t i = 0; i < matcher.tokens_.size(); ++i) {
    std::uint32_t node = 0;
    for (const char byte : matcher.tokens_[i].content) {
      const auto& children = matcher.nodes_[node].children;
      const auto child = std::find_if(children.begin(), children.end(),
                                      [byte](const auto& edge) { return edge.first == byte; });
      if (child != children.end()) {
        node = child->second;
        continue;
      }
      const auto fresh = static_cast<std::uint32_t>(matcher.nodes_.size());
      matcher.nodes_[node].children.emplace_back(byte, fresh);
      matcher.nodes_.emplace_back();
      node = fresh;
    }
    if (matcher.nodes_[node].token < 0) matcher.nodes_[node].token = static_cast<int>(i);
  }
  return matcher;
}

AddedTokenMatcher::Match AddedTokenMatcher::longest_at(std::string_view text, std::size_t begin,
                                                       std::size_t end) const {
  Match best;
  std::uint32_t node = 0;
  for (std::size_t at = begin; at < end; ++at) {
    const auto& children = nodes_[node].children;
    const auto child = std::find_if(children.begin(), children.end(),
                                    [&](const auto& edge) { return edge.first == text[at]; });
    if (child == children.end()) break;
    node = child->second;
    if (nodes_[node].token >= 0) best = {nodes_[node].token, at + 1};
  }
  return best;
}

Result<bool> AddedTokenMatcher::touches_word(std::string_view text, ByteRange range) const {
  const auto is_word = [&](std::size_t at) -> Result<bool> {
    const std::string_view character = text.substr(at, read_utf8(text.substr(at)).num_bytes);
    return !FACET_TRY(word_.find_all(character)).empty();
  };
  if (range.begin > 0 && FACET_TRY(is_word(previous_character(text, range.begin)))) return true;
  return range.end < text.size() && FACET_TRY(is_word(range.end));
}

Result<std::vector<AddedTokenSplit>> AddedTokenMatcher::split(
    std::string_view text, const std::vector<TextMode>& modes) const {
  std::vector<AddedTokenSplit> parts;
  std::size_t text_begin = 0;  // of the text not yet in a part
  std::size_t mode_begin = 0;
  for (const TextMode& mode : modes) {
    const std::size_t mode_end = std::min(mode.end, text.size());
    std::size_t at = mode.parse_added_tokens && !tokens_.empty() ? mode_begin : mode_end;
    mode_begin = mode_end;
    while (at < mode_end) {
      const Match match = longest_at(text, at, mode_end);
      if (match.token < 0) {
        ++at;
        continue;
      }
      const AddedToken& token = tokens_[static_cast<std::size_t>(match.token)];
      ByteRange range{at, match.end};
      at = match.end;
      if (token.single_word && FACET_TRY(touches_word(text, range))) continue;
      if (token.lstrip) {
        range.begin = std::max(blanks_begin(text, range.begin, text_begin), text_begin);
      }
      // Blanks that the token before took reach to text_begin: no need to read them again.
      if (token.rstrip) range.end = blanks_end(text, std::max(range.end, text_begin));
      // Nothing is left of a token of blanks that the one before it took.
      if (range.begin >= range.end) continue;
      if (text_begin < range.begin) parts.push_back({-1, {text_begin, range.begin}});
      parts.push_back({token.id, range});
      text_begin = range.end;
    }
  }
  if (text_begin < text.size()) parts.push_back({-1, {text_begin, text.size()}});
  return parts;
}

}  // namespace facet
