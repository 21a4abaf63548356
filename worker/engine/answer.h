// The answer of one request as it grows: what text each token adds, and when it ends. A pure
// function of the tokens, so that another attempt replays the committed ones and goes on.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/protocol/messages.h"
#include "worker/text/incremental_text.h"
#include "worker/text/stop_strings.h"

namespace facet {

class Answer {
 public:
  // `eos_token_ids` and `tokenizer` outlive the answer. params.max_tokens is above 0.
  Answer(const SamplingParams& params, const std::vector<std::int32_t>& eos_token_ids,
         const Tokenizer& tokenizer);

  // The text that became certain with this token: whole characters, before any stop string.
  std::string append(std::int32_t token);

  // How it ended, once it has.
  std::optional<SequenceEnd::Kind> ended() const { return ended_; }
  // The held-back rest of the text; once, after the end.
  std::string finish();
  std::uint32_t num_tokens() const { return num_tokens_; }
  std::uint32_t max_tokens() const { return max_tokens_; }

 private:
  bool is_eos(std::int32_t token) const;

  const std::vector<std::int32_t>* eos_token_ids_;
  IncrementalText text_;
  StopStrings stops_;
  std::uint32_t min_tokens_;
  std::uint32_t max_tokens_;
  bool ignore_eos_;
  std::uint32_t num_tokens_ = 0;
  std::optional<SequenceEnd::Kind> ended_;
};

}  // namespace facet
