// Text of a growing list of tokens, for streaming.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace facet {

class Tokenizer;

// Turns tokens into text as they come. A pure function of the tokens fed, whatever the calls: all
// returned strings joined equal the reference's decode(ids, skip_special_tokens=True). Special
// tokens and ids without a token add nothing.
class IncrementalText {
 public:
  // Keeps the reference; the tokenizer must live longer.
  explicit IncrementalText(const Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}

  // The text that became certain: valid UTF-8, whole characters. A character whose bytes are not
  // complete is held (at most 3 bytes); bytes that cannot be UTF-8 become U+FFFD.
  std::string feed(std::int32_t token_id);
  std::string feed(std::span<const std::int32_t> token_ids);

  // The end of the text: a held incomplete character becomes one U+FFFD.
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  std::string held_;  // the beginning of a character
};

}  // namespace facet
