#include "worker/checkpoint/generation_defaults.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "worker/checkpoint/json_fields.h"

namespace facet {
namespace {

using KeySet = std::set<std::string_view>;

// Known, and without effect on what Facet does.
const KeySet& ignored_keys() {
  static const KeySet kKeys{"bos_token_id",
                            "pad_token_id",
                            "eos_token_id",
                            "repetition_penalty",
                            "do_sample",
                            "temperature",
                            "top_k",
                            "top_p",
                            "min_p",
                            "typical_p",
                            "epsilon_cutoff",
                            "eta_cutoff",
                            "top_h",
                            "transformers_version",
                            "max_length",
                            "max_new_tokens",
                            "use_cache",
                            "cache_implementation",
                            "output_attentions",
                            "output_hidden_states",
                            "output_scores",
                            "output_logits",
                            "return_dict_in_generate",
                            "num_return_sequences",
                            "low_memory",
                            "attn_implementation",
                            "chat_format",
                            "max_window_size"};
  return kKeys;
}

// In effect only with another value than the one here.
const nlohmann::json& inactive_values() {
  static const nlohmann::json kValues{{"num_beams", 1},
                                      {"num_beam_groups", 1},
                                      {"min_length", 0},
                                      {"min_new_tokens", 0},
                                      {"no_repeat_ngram_size", 0},
                                      {"encoder_no_repeat_ngram_size", 0},
                                      {"encoder_repetition_penalty", 1.0},
                                      {"length_penalty", 1.0},
                                      {"diversity_penalty", 0.0},
                                      {"early_stopping", false},
                                      {"renormalize_logits", false},
                                      {"remove_invalid_values", false},
                                      {"guidance_scale", 1.0},
                                      {"penalty_alpha", 0.0},
                                      {"token_healing", false}};
  return kValues;
}

}  // namespace

Result<GenerationDefaults> load_generation_defaults(const std::string& directory) {
  const std::string path = directory + "/generation_config.json";
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return GenerationDefaults{};
  const nlohmann::json root = FACET_TRY(read_json_object(path));
  std::vector<std::string> problems;
  JsonFields fields(root, path, problems);
  for (const auto& [key, value] : root.items()) {
    if (value.is_null() || key.starts_with('_') || ignored_keys().contains(key)) continue;
    const auto inactive = inactive_values().find(key);
    if (inactive == inactive_values().end())
      fields.problem(key, "is not a key this version knows");
    else if (*inactive != value)
      fields.problem(key, value.dump() + " is not supported, only " + inactive->dump() + " is");
  }
  GenerationDefaults defaults;
  for (const std::int64_t id : fields.integers("eos_token_id", {}, 0, 1 << 30))
    defaults.eos_token_ids.push_back(static_cast<std::int32_t>(id));
  defaults.repetition_penalty = fields.number("repetition_penalty", 1.0, 1e-3, 1e3);
  if (!problems.empty()) return Error(Code::kInvalidArgument, join_lines(problems));
  return defaults;
}

}  // namespace facet
