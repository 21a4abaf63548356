// The part of a model family that needs no arithmetic: conversations to tokens and positions. One
// implementation per family.
#pragma once

#include <span>

#include "common/base/result.h"
#include "worker/engine/engine.h"
#include "worker/engine/sequence.h"

namespace facet {

class Tokenizer;

class InputProcessor {
 public:
  virtual ~InputProcessor() = default;

  // kInvalidArgument, kTooLarge or kUnsupported: what is wrong with the request. Reads the images'
  // sizes, not their pixels.
  virtual Result<Prompt> build(const GenerateRequest& request,
                               std::span<const ImageView> images) const = 0;

  virtual const Tokenizer& tokenizer() const = 0;
};

}  // namespace facet
