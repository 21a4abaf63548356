// The vision_config part of config.json; see qwen_config.h.
#pragma once

#include "worker/checkpoint/json_fields.h"
#include "worker/checkpoint/qwen_config.h"

namespace facet {

// Bounds that keep sizes and their products far from overflow; every published model is far below.
inline constexpr std::int64_t kMaxWidth = 1 << 20;  // hidden sizes, vocabulary
inline constexpr std::int64_t kMaxLayers = 1024;
inline constexpr std::int64_t kMaxTokenId = 1 << 30;

QwenVisionConfig read_vision_config(JsonFields fields, std::vector<std::string>& problems);

}  // namespace facet
