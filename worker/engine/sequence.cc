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
  const std::int32_t position = num_tokens() + prompt.position_delta;
  tokens.push_back(token);
  positions.push_back({position, position, position});
}

}  // namespace facet
