#include "worker/checkpoint/qwen_vision_config.h"

#include <algorithm>

#include "worker/checkpoint/qwen_keys.h"

namespace facet {
namespace {

// A size that the file may give as 14 or as [14, 14].
std::int64_t square_size(JsonFields& fields, std::string_view key, std::int64_t fallback) {
  const auto sizes = fields.integers(key, {fallback}, 1, 1024);
  if (sizes.empty() || std::any_of(sizes.begin(), sizes.end(),
                                   [&](std::int64_t size) { return size != sizes[0]; })) {
    fields.problem(key, "is not one size, or equal ones");
    return fallback;
  }
  return sizes[0];
}

void read_rope(JsonFields& fields, QwenVisionConfig& vision, std::vector<std::string>& problems) {
  JsonFields rope(fields.object("rope_parameters"), fields.where() + ": rope_parameters", problems);
  static const KeySet kKnown{"rope_type", "type", "rope_theta"};
  rope.refuse_unknown({&kKnown});
  const std::string type = rope.string("rope_type", rope.string("type", "axial"));
  if (type != "axial" && type != "default") rope.problem("rope_type", type + " is not supported");
  vision.rope_theta = rope.number("rope_theta", vision.rope_theta, 1.0, 1e12);
}

void check_sizes(JsonFields& fields, const QwenVisionConfig& vision) {
  if (vision.hidden_size % vision.num_heads != 0 || vision.head_dim() % 4 != 0)
    fields.problem("num_heads", "hidden_size " + std::to_string(vision.hidden_size) + " over " +
                                    std::to_string(vision.num_heads) +
                                    " heads is not a head size that 4 divides");
  if (vision.window_cells() < 1) fields.problem("window_size", "is smaller than one image token");
  if (vision.in_channels != 3) fields.problem("in_channels", "is not 3");
  for (const std::int64_t block : vision.full_attention_blocks)
    if (block >= vision.depth)
      fields.problem("fullatt_block_indexes",
                     std::to_string(block) + " is not below depth " + std::to_string(vision.depth));
}

}  // namespace

bool QwenVisionConfig::is_full_attention(std::int64_t block) const {
  return std::find(full_attention_blocks.begin(), full_attention_blocks.end(), block) !=
         full_attention_blocks.end();
}

QwenVisionConfig read_vision_config(JsonFields fields, std::vector<std::string>& problems) {
  QwenVisionConfig vision;
  fields.refuse_unknown({&qwen_vision_keys(), &harmless_keys()});
  vision.depth = fields.integer("depth", vision.depth, 1, kMaxLayers);
  vision.hidden_size = fields.integer("hidden_size", vision.hidden_size, 1, kMaxWidth);
  vision.intermediate_size =
      fields.integer("intermediate_size", vision.intermediate_size, 1, kMaxWidth);
  vision.num_heads = fields.integer("num_heads", vision.num_heads, 1, 4096);
  vision.in_channels = fields.integer("in_channels", fields.integer("in_chans", 3, 1, 64), 1, 64);
  vision.patch_size = square_size(fields, "patch_size", vision.patch_size);
  vision.temporal_patch_size = square_size(fields, "temporal_patch_size", 2);
  vision.merge_size = fields.integer("spatial_merge_size", vision.merge_size, 1, 16);
  vision.window_size = fields.integer("window_size", vision.window_size, 1, 1 << 16);
  vision.out_hidden_size = fields.integer("out_hidden_size", vision.out_hidden_size, 1, kMaxWidth);
  vision.full_attention_blocks =
      fields.integers("fullatt_block_indexes", vision.full_attention_blocks, 0, kMaxLayers);
  const std::string act = fields.string("hidden_act", "silu");
  if (act != "silu") fields.problem("hidden_act", act + " is not supported, only silu is");
  read_rope(fields, vision, problems);
  check_sizes(fields, vision);
  return vision;
}

}  // namespace facet
