// config.json of Qwen2.5-VL, in both spellings: flat (text keys at the top, as published) and
// nested (text_config, as transformers 5 writes it). Defaults are those of transformers 5.17.0's
// classes.
#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "common/base/result.h"

namespace facet {

struct QwenTextConfig {
  std::int64_t vocab_size = 152064;
  std::int64_t hidden_size = 8192;
  std::int64_t intermediate_size = 29568;
  std::int64_t num_layers = 80;
  std::int64_t num_heads = 64;
  std::int64_t num_kv_heads = 8;
  std::int64_t max_position_embeddings = 32768;
  double rms_norm_eps = 1e-5;
  double rope_theta = 1e6;
  // Pairs of the head that turn with the T, H and W position; sums to head_dim / 2.
  std::array<std::int64_t, 3> mrope_section{16, 24, 24};

  std::int64_t head_dim() const { return hidden_size / num_heads; }
  // Queries, keys and values of a token, side by side.
  std::int64_t qkv_width() const { return (num_heads + 2 * num_kv_heads) * head_dim(); }
};

struct QwenVisionConfig {
  static constexpr double kRmsNormEps = 1e-6;  // fixed in the reference, not in the file

  std::int64_t depth = 32;
  std::int64_t hidden_size = 3584;
  std::int64_t intermediate_size = 3420;
  std::int64_t num_heads = 16;
  std::int64_t in_channels = 3;
  std::int64_t patch_size = 14;
  std::int64_t merge_size = 2;  // patches on a side of one image token
  std::int64_t temporal_patch_size = 2;
  std::int64_t window_size = 112;  // pixels
  std::int64_t out_hidden_size = 3584;
  double rope_theta = 10000.0;
  std::vector<std::int64_t> full_attention_blocks{7, 15, 23, 31};

  std::int64_t head_dim() const { return hidden_size / num_heads; }
  std::int64_t merge_unit() const { return merge_size * merge_size; }  // patches of one image token
  std::int64_t window_cells() const {
    return window_size / merge_size / patch_size;
  }  // image tokens
  std::int64_t patch_values() const {
    return in_channels * temporal_patch_size * patch_size * patch_size;
  }
  bool is_full_attention(std::int64_t block) const;
};

struct QwenConfig {
  QwenTextConfig text;
  QwenVisionConfig vision;
  bool tie_word_embeddings = false;
  std::int32_t image_token_id = 151655;
  std::int32_t video_token_id = 151656;
  std::int32_t vision_start_token_id = 151652;
  std::vector<std::int32_t> eos_token_ids{151645};  // generation_config.json goes before it
};

// DIRECTORY/config.json. The error lists every problem: unknown keys, wrong types, values out of
// range or unsupported. kUnsupported: another model_type; kInvalidArgument: the rest.
Result<QwenConfig> load_qwen_config(const std::string& directory);
Result<QwenConfig> parse_qwen_config(const nlohmann::json& root, const std::string& name);

}  // namespace facet
