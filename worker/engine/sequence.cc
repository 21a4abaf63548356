#include "worker/engine/sequence.h"

#include <utility>

namespace facet {

Sequence::Sequence(Prompt from, std::span<const std::int32_t> committed)
    : prompt(std::move(from)),
      tokens(prompt.token_ids),
      positions(prompt.positions),
      image_rows(prompt.images.size(), kNotHeld) {
  for (const std::int32_t token : committed) append(token);
}

void Sequence::append(std::int32_t token) {
  positions.push_back(position_of_answer(num_known()));
  tokens.push_back(token);
}

}  // namespace facet
