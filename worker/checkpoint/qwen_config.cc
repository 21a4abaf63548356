#include "worker/checkpoint/qwen_config.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "worker/checkpoint/json_fields.h"
#include "worker/checkpoint/qwen_keys.h"
#include "worker/checkpoint/qwen_vision_config.h"

namespace facet {
namespace {

using nlohmann::json;
using Problems = std::vector<std::string>;

// The rope settings lie in rope_parameters (new), rope_scaling (old) or nowhere; rope_theta beside
// them or inside.
void read_rope(JsonFields& fields, QwenTextConfig& text, Problems& problems) {
  const char* key = fields.has("rope_scaling") ? "rope_scaling" : "rope_parameters";
  JsonFields rope(fields.object(key), fields.where() + ": " + key, problems);
  static const KeySet kKnown{"rope_type", "type", "rope_theta", "mrope_section"};
  rope.refuse_unknown({&kKnown});
  for (const char* name : {"rope_type", "type"}) {
    const std::string type = rope.string(name, "default");
    if (type != "default" && type != "mrope") rope.problem(name, type + " is not supported");
  }
  const double beside = fields.number("rope_theta", text.rope_theta, 1.0, 1e12);
  text.rope_theta = rope.number("rope_theta", beside, 1.0, 1e12);
  const auto section = rope.integers("mrope_section", {16, 24, 24}, 0, 1024);
  if (section.size() != 3 ||
      2 * std::accumulate(section.begin(), section.end(), std::int64_t{0}) != text.head_dim()) {
    rope.problem("mrope_section", "is not three sizes whose sum is half of the head size " +
                                      std::to_string(text.head_dim()));
    return;
  }
  std::copy(section.begin(), section.end(), text.mrope_section.begin());
}

void check_windows(JsonFields& fields, const QwenTextConfig& text) {
  const bool use_window = fields.boolean("use_sliding_window", false);
  const auto first = fields.integer("max_window_layers", 80, 0, 1 << 20);
  if (use_window && fields.has("sliding_window") && first < text.num_layers)
    fields.problem("use_sliding_window", "true is not supported");
  if (fields.has("attention_dropout")) fields.number("attention_dropout", 0.0, 0.0, 1.0);
}

void check_layer_types(const json& object, JsonFields& fields) {
  const auto types = object.find("layer_types");
  if (types == object.end() || types->is_null()) return;
  if (!types->is_array()) return fields.problem("layer_types", "is not an array");
  for (const json& type : *types)
    if (type != "full_attention")
      return fields.problem("layer_types", short_text(type) + " is not supported");
}

QwenTextConfig read_text(const json& object, const std::string& where, Problems& problems) {
  JsonFields fields(object, where, problems);
  QwenTextConfig text;
  text.vocab_size = fields.integer("vocab_size", text.vocab_size, 1, kMaxWidth);
  text.hidden_size = fields.integer("hidden_size", text.hidden_size, 1, kMaxWidth);
  text.intermediate_size =
      fields.integer("intermediate_size", text.intermediate_size, 1, kMaxWidth);
  text.num_layers = fields.integer("num_hidden_layers", text.num_layers, 1, kMaxLayers);
  text.num_heads = fields.integer("num_attention_heads", text.num_heads, 1, 4096);
  // null, but not absence, means as many as heads
  const auto kv = object.find("num_key_value_heads");
  text.num_kv_heads = kv != object.end() && kv->is_null()
                          ? text.num_heads
                          : fields.integer("num_key_value_heads", text.num_kv_heads, 1, 4096);
  text.max_position_embeddings =
      fields.integer("max_position_embeddings", text.max_position_embeddings, 1, 1 << 30);
  text.rms_norm_eps = fields.number("rms_norm_eps", text.rms_norm_eps, 0.0, 1.0);
  const std::string act = fields.string("hidden_act", "silu");
  if (act != "silu") fields.problem("hidden_act", act + " is not supported, only silu is");
  if (text.hidden_size % text.num_heads != 0)
    fields.problem("num_attention_heads",
                   "does not divide hidden_size " + std::to_string(text.hidden_size));
  if (text.num_heads % text.num_kv_heads != 0)
    fields.problem("num_key_value_heads",
                   "does not divide num_attention_heads " + std::to_string(text.num_heads));
  if (fields.integer("head_dim", text.head_dim(), 1, kMaxWidth) != text.head_dim())
    fields.problem("head_dim", "is not hidden_size / num_attention_heads");
  check_windows(fields, text);
  check_layer_types(object, fields);
  read_rope(fields, text, problems);
  return text;
}

std::int32_t token_id(JsonFields& fields, std::string_view key, std::int32_t fallback) {
  return static_cast<std::int32_t>(fields.integer(key, fallback, 0, kMaxTokenId));
}

}  // namespace

Result<QwenConfig> parse_qwen_config(const json& root, const std::string& name) {
  Problems problems;
  JsonFields fields(root, name, problems);
  if (const std::string type = fields.string("model_type", "(absent)"); type != "qwen2_5_vl")
    return Error(Code::kUnsupported, name + ": model_type " + type + " is not supported");
  const bool nested = fields.has("text_config");
  const json& text = nested ? fields.object("text_config") : root;
  // A nested file may repeat text keys at the top; transformers ignores those.
  fields.refuse_unknown({&qwen_root_keys(), &qwen_text_keys(), &harmless_keys()});
  JsonFields text_fields(text, nested ? name + ": text_config" : name, problems);
  if (nested) text_fields.refuse_unknown({&qwen_text_keys(), &harmless_keys()});

  QwenConfig config;
  config.text = read_text(text, text_fields.where(), problems);
  config.vision = read_vision_config(
      JsonFields(fields.object("vision_config"), name + ": vision_config", problems), problems);
  config.tie_word_embeddings = fields.boolean("tie_word_embeddings", false) ||
                               text_fields.boolean("tie_word_embeddings", false);
  config.image_token_id = token_id(fields, "image_token_id", config.image_token_id);
  config.video_token_id = token_id(fields, "video_token_id", config.video_token_id);
  config.vision_start_token_id =
      token_id(fields, "vision_start_token_id", config.vision_start_token_id);
  JsonFields& eos_fields = fields.has("eos_token_id") ? fields : text_fields;
  config.eos_token_ids.clear();
  for (const std::int64_t id : eos_fields.integers("eos_token_id", {151645}, 0, kMaxTokenId))
    config.eos_token_ids.push_back(static_cast<std::int32_t>(id));
  if (config.vision.out_hidden_size != config.text.hidden_size)
    problems.push_back(name + ": vision_config: out_hidden_size: is not the language model's " +
                       std::to_string(config.text.hidden_size));
  if (!problems.empty()) return Error(Code::kInvalidArgument, join_lines(problems));
  return config;
}

Result<QwenConfig> load_qwen_config(const std::string& directory) {
  const std::string path = directory + "/config.json";
  const json root = FACET_TRY(read_json_object(path));
  return parse_qwen_config(root, path);
}

}  // namespace facet
