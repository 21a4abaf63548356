// Added tokens of tokenizer.json: strings that are one token wherever they stand in the text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/result.h"
#include "worker/text/regex.h"

namespace facet {

struct AddedToken {
  std::int32_t id = 0;
  std::string content;
  bool single_word = false;  // only where no word character stands beside it
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space after it
  bool normalized = false;   // searched in normalized text, and itself normalized
  bool special = false;      // left out of decoded text
};

// A part of a text: one added token, or text that holds none (token_id < 0).
struct AddedTokenSplit {
  std::int32_t token_id = -1;
  ByteRange range;
};

// Text up to `end` (from the end of the mode before it) and whether tokens are looked for in it.
struct TextMode {
  std::size_t end = 0;
  bool parse_added_tokens = true;
};

// Finds a set of added tokens: leftmost, then longest, as the reference's automaton does.
class AddedTokenMatcher {
 public:
  // Tokens with empty content are never found.
  static Result<AddedTokenMatcher> create(std::vector<AddedToken> tokens);

  bool empty() const { return tokens_.empty(); }

  // The parts of valid UTF-8 `text` in order; `modes` cover it. A token is found only inside one
  // mode that allows it; lstrip, rstrip and single_word look across modes. The parts may overlap
  // where one token's rstrip and the next token's own blanks meet, as in the reference.
  Result<std::vector<AddedTokenSplit>> split(std::string_view text,
                                             const std::vector<TextMode>& modes) const;

 private:
  struct Node {
    std::vector<std::pair<char, std::uint32_t>> children;
    int token = -1;  // index in tokens_
  };
  struct Match {
    int token = -1;
    std::size_t end = 0;
  };

  explicit AddedTokenMatcher(Regex word) : word_(std::move(word)) {}
  Match longest_at(std::string_view text, std::size_t begin, std::size_t end) const;
  Result<bool> touches_word(std::string_view text, ByteRange range) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;
  Regex word_;  // one word character at the start of the text
};

}  // namespace facet
