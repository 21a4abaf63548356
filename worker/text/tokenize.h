// The tokens of a text, for a command line that has a model directory and no model.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace facet {

// Tokens of a whole text with added tokens parsed, as transformers' AutoTokenizer(dir)(text,
// add_special_tokens=False).input_ids. Needs only the tokenizer's files. Bytes that are not UTF-8
// become U+FFFD.
Result<std::vector<std::int32_t>> tokenize_text(const std::filesystem::path& model_dir,
                                                std::string_view text);

}  // namespace facet
