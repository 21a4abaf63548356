// The part of a model family that needs no arithmetic: conversations to tokens and positions,
// pixels to patches. One implementation per family.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

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

  // Reads the pixels once, in the caller's thread. The result lies in `storage`.
  virtual Result<ImagePatches> preprocess(const ImageView& image, const ImageSpan& span,
                                          std::vector<float>& storage) const = 0;

  virtual const Tokenizer& tokenizer() const = 0;
};

}  // namespace facet
