// The pre_tokenizer of tokenizer.json: cuts text into the words that BPE works on.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "worker/text/regex.h"

namespace facet {

// What becomes of the matches of a Split (names as in the file, lower case).
enum class SplitBehavior {
  kIsolated,
  kRemoved,
  kMergedWithPrevious,
  kMergedWithNext,
  kContiguous,
};

// The pieces of a text of `text_bytes` bytes with these matches; empty pieces are left out.
// `invert` swaps matches and the text between them.
std::vector<ByteRange> split_pieces(std::size_t text_bytes, const std::vector<ByteRange>& matches,
                                    SplitBehavior behavior, bool invert);

class PreTokenizer {
 public:
  // Reads a Split, ByteLevel or Sequence; any other type, or an unknown key, is refused by name.
  // Exactly one ByteLevel, as the last step: the vocabularies served here are byte-level.
  static Result<PreTokenizer> from_json(const nlohmann::json& json);

  // Calls use_word(std::string_view bytes) for each word of valid UTF-8, in order. The words are
  // plain bytes: the byte-level alphabet is the vocabulary's matter.
  template <class UseWord>
  Status for_each_word(std::string_view text, UseWord use_word) const {
    std::string with_prefix;
    const std::vector<ByteRange> pieces = FACET_TRY(split(text));
    for (const ByteRange piece : pieces) {
      std::string_view word = text.substr(piece.begin, piece.end - piece.begin);
      if (add_prefix_space_ && word.front() != ' ') {
        with_prefix = " " + std::string(word);
        word = with_prefix;
      }
      if (!word_regex_.empty()) {
        FACET_TRY_STATUS(split_word(word, use_word));
      } else {
        use_word(word);
      }
    }
    return {};
  }

 private:
  struct Step {
    Regex regex;
    SplitBehavior behavior;
    bool invert;
  };

  Status add(const nlohmann::json& json);
  Status add_split(const nlohmann::json& json);
  Status add_byte_level(const nlohmann::json& json);
  Result<std::vector<ByteRange>> split(std::string_view text) const;

  template <class UseWord>
  Status split_word(std::string_view word, UseWord& use_word) const {
    const std::vector<ByteRange> matches = FACET_TRY(word_regex_.front().find_all(word));
    for (const ByteRange piece :
         split_pieces(word.size(), matches, SplitBehavior::kIsolated, false)) {
      use_word(word.substr(piece.begin, piece.end - piece.begin));
    }
    return {};
  }

  std::vector<Step> steps_;
  std::vector<Regex> word_regex_;  // at most one: ByteLevel's own, when use_regex is on
  bool has_byte_level_ = false;
  bool add_prefix_space_ = false;
};

}  // namespace facet
