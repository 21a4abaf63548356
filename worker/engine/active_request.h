// One request inside a ModelEngine.
#pragma once

#include <optional>

#include "worker/engine/answer.h"
#include "worker/engine/engine.h"
#include "worker/engine/model_engine.h"
#include "worker/engine/sampler.h"
#include "worker/engine/sequence.h"

namespace facet {

struct ModelEngine::Active {
  SequenceSpec spec;
  Sequence sequence;
  Sampler sampler;
  Answer answer;
  bool images_released = false;           // said, or noted to be said with the next update
  bool release_is_due = false;            // noted
  std::optional<SequenceEnd::Kind> ends;  // without another step: cancelled, or complete already

  // An update that begins at the answer's next token.
  SequenceUpdate make_update() const {
    SequenceUpdate update;
    update.id = spec.id;
    update.attempt = spec.attempt;
    update.index = answer.num_tokens();
    return update;
  }
  // All tokens of the answer are chosen or being chosen: it takes part in no further step.
  bool all_launched() const {
    return answer.num_tokens() + static_cast<std::uint32_t>(sequence.num_pending) >=
           answer.max_tokens();
  }
  bool all_encoded() const {
    return !spec.images.empty() && sequence.num_encoded == sequence.prompt.images.size();
  }
  std::uint32_t num_image_tokens() const {
    std::int32_t sum = 0;
    for (const ImageSpan& image : sequence.prompt.images) sum += image.count;
    return static_cast<std::uint32_t>(sum);
  }
};

}  // namespace facet
