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
  bool images_released = false;
  std::optional<SequenceEnd::Kind> ends;  // without another step: cancelled, or complete already

  // An update that begins at the answer's next token.
  SequenceUpdate make_update() const {
    SequenceUpdate update;
    update.id = spec.id;
    update.attempt = spec.attempt;
    update.index = answer.num_tokens();
    return update;
  }
  std::uint32_t num_image_tokens() const {
    std::int32_t sum = 0;
    for (const ImageSpan& image : sequence.prompt.images) sum += image.count;
    return static_cast<std::uint32_t>(sum);
  }
};

}  // namespace facet
