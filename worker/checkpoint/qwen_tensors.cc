#include "worker/checkpoint/qwen_tensors.h"

namespace facet {
namespace {

using Specs = std::vector<TensorSpec>;
using Shape = std::vector<std::int64_t>;

void add_linear(Specs& specs, const std::string& name, std::int64_t out, std::int64_t in,
                bool bias) {
  specs.push_back({name + ".weight", Shape{out, in}});
  if (bias) specs.push_back({name + ".bias", Shape{out}});
}

void add_mlp(Specs& specs, const std::string& name, std::int64_t hidden, std::int64_t inner,
             bool bias) {
  add_linear(specs, name + ".gate_proj", inner, hidden, bias);
  add_linear(specs, name + ".up_proj", inner, hidden, bias);
  add_linear(specs, name + ".down_proj", hidden, inner, bias);
}

void add_text(Specs& specs, const QwenTextConfig& text) {
  const std::string model = "model.language_model.";
  const std::int64_t hidden = text.hidden_size;
  const std::int64_t kv = text.num_kv_heads * text.head_dim();
  specs.push_back({model + "embed_tokens.weight", Shape{text.vocab_size, hidden}});
  for (std::int64_t i = 0; i < text.num_layers; ++i) {
    const std::string layer = model + "layers." + std::to_string(i) + ".";
    specs.push_back({layer + "input_layernorm.weight", Shape{hidden}});
    specs.push_back({layer + "post_attention_layernorm.weight", Shape{hidden}});
    add_linear(specs, layer + "self_attn.q_proj", hidden, hidden, true);
    add_linear(specs, layer + "self_attn.k_proj", kv, hidden, true);
    add_linear(specs, layer + "self_attn.v_proj", kv, hidden, true);
    add_linear(specs, layer + "self_attn.o_proj", hidden, hidden, false);
    add_mlp(specs, layer + "mlp", hidden, text.intermediate_size, false);
  }
  specs.push_back({model + "norm.weight", Shape{hidden}});
}

void add_vision(Specs& specs, const QwenVisionConfig& vision) {
  const std::string model = "model.visual.";
  const std::int64_t hidden = vision.hidden_size;
  const std::int64_t merged = hidden * vision.merge_unit();
  specs.push_back({model + "patch_embed.proj.weight",
                   Shape{hidden, vision.in_channels, vision.temporal_patch_size, vision.patch_size,
                         vision.patch_size}});
  for (std::int64_t i = 0; i < vision.depth; ++i) {
    const std::string block = model + "blocks." + std::to_string(i) + ".";
    specs.push_back({block + "norm1.weight", Shape{hidden}});
    specs.push_back({block + "norm2.weight", Shape{hidden}});
    add_linear(specs, block + "attn.qkv", 3 * hidden, hidden, true);
    add_linear(specs, block + "attn.proj", hidden, hidden, true);
    add_mlp(specs, block + "mlp", hidden, vision.intermediate_size, true);
  }
  specs.push_back({model + "merger.ln_q.weight", Shape{hidden}});
  add_linear(specs, model + "merger.mlp.0", merged, merged, true);
  add_linear(specs, model + "merger.mlp.2", vision.out_hidden_size, merged, true);
}

}  // namespace

std::vector<TensorSpec> qwen_tensor_specs(const QwenConfig& config) {
  Specs specs;
  add_text(specs, config.text);
  add_vision(specs, config.vision);
  if (!config.tie_word_embeddings)
    specs.push_back({"lm_head.weight", Shape{config.text.vocab_size, config.text.hidden_size}});
  return specs;
}

std::string qwen_canonical_name(std::string_view stored) {
  const std::string name(stored);
  if (name.starts_with("visual.")) return "model." + name;
  if (!name.starts_with("model.") || name.starts_with("model.visual.") ||
      name.starts_with("model.language_model."))
    return name;
  return "model.language_model." + name.substr(6);
}

Result<TensorTable> bind_qwen_tensors(const Checkpoint& checkpoint, const QwenConfig& config) {
  std::vector<std::string> ignored;
  if (config.tie_word_embeddings) ignored.push_back("lm_head.weight");
  return bind_tensors(checkpoint, qwen_tensor_specs(config), qwen_canonical_name, ignored);
}

}  // namespace facet
