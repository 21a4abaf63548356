// What generation_config.json says about an answer when the request does not.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/result.h"

namespace facet {

struct GenerationDefaults {
  std::vector<std::int32_t> eos_token_ids;  // empty: the file is silent, config.json decides
  double repetition_penalty = 1.0;          // acts under greedy too, over prompt and answer
};

// DIRECTORY/generation_config.json; the defaults when there is no such file. Keys that would change
// a greedy answer and are not implemented here are refused by name when they are in effect.
// Sampling settings (temperature, top_k, ...) are not taken over: a request states its own.
Result<GenerationDefaults> load_generation_defaults(const std::string& directory);

}  // namespace facet
