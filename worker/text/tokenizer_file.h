// The parts of tokenizer.json around the BPE model.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "common/base/result.h"
#include "worker/text/added_tokens.h"
#include "worker/text/bpe.h"

namespace facet {

// Checks the top-level keys, and that "decoder" is ByteLevel.
Status check_tokenizer_file(const nlohmann::json& json);

// True for NFC, false for none; a Sequence of these too. Others are refused by name.
Result<bool> read_normalizer(const nlohmann::json& normalizer);

// The added tokens with their ids. The reference derives ids from the vocabulary and the order;
// a file whose own ids say otherwise is refused, because it would not load the same there.
Result<std::vector<AddedToken>> read_added_tokens(const nlohmann::json& json,
                                                  const StringMap<std::int32_t>& vocabulary);

// Ids that the post-processor's template puts before a single text. ByteLevel and null add none.
Result<std::vector<std::int32_t>> read_template_prefix(const nlohmann::json& post_processor);

// Refuses tokenizer_config.json where it adds tokens or settings that tokenizer.json does not
// have, since transformers would apply them. A missing file is fine.
Status check_tokenizer_config(const std::filesystem::path& file,
                              const std::vector<AddedToken>& added_tokens);

}  // namespace facet
