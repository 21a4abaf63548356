// What a generate request must look like, beyond what the codec checks. Pure.
#pragma once

#include "broker/core/core_limits.h"
#include "common/base/result.h"
#include "common/protocol/messages.h"

namespace facet::core {

// Checks ranges and fills in the server's defaults (max_tokens, deadline_ms). `facts` may be null:
// no worker has said what its model is yet. Errors name the key, the value and the limit.
Status check_request(GenerateRequest& request, const CoreLimits& limits, const ModelFacts* facts);

// Tokens of the prompt, images left out, and of one image, as least-loaded dispatch guesses them.
std::uint64_t estimate_text_tokens(const GenerateRequest& request);
std::uint64_t estimate_image_tokens(std::uint32_t width, std::uint32_t height,
                                    const ModelFacts* facts);

}  // namespace facet::core
