// Settings of a model's image processor.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>

#include "common/base/result.h"

namespace facet {

// Of Qwen2-VL and Qwen2.5-VL. Defaults are those of transformers' Qwen2VLImageProcessor.
struct QwenImageSettings {
  std::int64_t min_pixels = 56 * 56;
  std::int64_t max_pixels = 28 * 28 * 1280;
  std::int64_t patch_size = 14;
  std::int64_t temporal_patch_size = 2;
  std::int64_t merge_size = 2;
  std::array<double, 3> mean = {0.48145466, 0.4578275, 0.40821073};
  std::array<double, 3> std_dev = {0.26862954, 0.26130258, 0.27577711};
  double rescale_factor = 1.0 / 255;
};

// Reads the old spelling (min_pixels, max_pixels) and the new (size.shortest_edge, longest_edge);
// the old one wins where both stand. Refused by name: unknown keys with a value, a resample other
// than bicubic, steps switched off, another processor's type, sizes out of range.
Result<QwenImageSettings> parse_qwen_image_settings(const nlohmann::json& json);

// From processor_config.json's "image_processor" when it has one, else preprocessor_config.json
// (the reference's order).
Result<QwenImageSettings> load_qwen_image_settings(const std::filesystem::path& model_dir);

}  // namespace facet
