#include "worker/engine/answer.h"

#include <algorithm>

#include "common/base/check.h"

namespace facet {

Answer::Answer(const SamplingParams& params, const std::vector<std::int32_t>& eos_token_ids,
               const Tokenizer& tokenizer)
    : eos_token_ids_(&eos_token_ids),
      text_(tokenizer),
      stops_(params.stop),
      min_tokens_(params.min_tokens),
      max_tokens_(params.max_tokens),
      ignore_eos_(params.ignore_eos) {
  FACET_CHECK(max_tokens_ > 0);
}

bool Answer::is_eos(std::int32_t token) const {
  return std::find(eos_token_ids_->begin(), eos_token_ids_->end(), token) != eos_token_ids_->end();
}

std::string Answer::append(std::int32_t token) {
  FACET_CHECK(!ended_);
  ++num_tokens_;
  std::string text = text_.feed(token);
  // As vLLM: stop strings are looked for in the text that comes after the minimum.
  if (num_tokens_ > min_tokens_) text = stops_.feed(text);
  if (stops_.stopped() || (is_eos(token) && !ignore_eos_))
    ended_ = SequenceEnd::Kind::kStop;
  else if (num_tokens_ >= max_tokens_)
    ended_ = SequenceEnd::Kind::kLength;
  return text;
}

std::string Answer::finish() {
  if (stops_.stopped()) return {};
  std::string text = stops_.feed(text_.finish());
  return text + stops_.finish();
}

}  // namespace facet
