#include "worker/text/incremental_text.h"

#include "worker/text/tokenizer.h"
#include "worker/text/utf8.h"

namespace facet {

std::string IncrementalText::feed(std::int32_t token_id) {
  if (tokenizer_->is_special(token_id)) return {};
  held_ += tokenizer_->token_bytes(token_id);
  std::string out;
  std::string_view rest = held_;
  while (!rest.empty()) {
    const Utf8Step step = read_utf8(rest);
    if (step.kind == Utf8Step::Kind::kIncomplete) break;
    const bool good = step.kind == Utf8Step::Kind::kCharacter;
    out += good ? rest.substr(0, step.num_bytes) : kReplacementCharacter;
    rest.remove_prefix(step.num_bytes);
  }
  held_ = std::string(rest);
  return out;
}

std::string IncrementalText::feed(std::span<const std::int32_t> token_ids) {
  std::string out;
  for (const std::int32_t id : token_ids) out += feed(id);
  return out;
}

std::string IncrementalText::finish() {
  if (held_.empty()) return {};
  held_.clear();
  return std::string(kReplacementCharacter);
}

}  // namespace facet
