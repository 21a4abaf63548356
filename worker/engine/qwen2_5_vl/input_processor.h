// Prompts of Qwen2.5-VL: tokens and positions, and how many of them each image takes.
#pragma once

#include <memory>
#include <string>

#include "common/base/result.h"
#include "worker/checkpoint/qwen_config.h"
#include "worker/engine/input_processor.h"
#include "worker/image/preprocessor_config.h"

namespace facet {

// Positions of a prompt with images (M-RoPE): text advances all three rows by one; an image stands
// at one T, its H and W run over its merged rows and columns, and the text after it goes on behind
// the larger of the two (transformers 5.17.0, Qwen2_5_VLModel.get_rope_index).
// Fills prompt.positions and prompt.position_delta from token_ids and images.
void fill_mrope_positions(std::int32_t merge_size, Prompt& prompt);

struct QwenInputLimits {
  std::int32_t image_tokens_max = 0;  // of one image: what encoder memory is planned for
  std::uint32_t max_images = 0;
};

// Reads tokenizer and chat template from the model's directory.
Result<std::unique_ptr<InputProcessor>> make_qwen_input_processor(const std::string& directory,
                                                                  const QwenConfig& config,
                                                                  const QwenImageSettings& settings,
                                                                  const QwenInputLimits& limits);

// kInvalidArgument when the image settings and the vision tower disagree on patches.
Status check_image_settings(const QwenImageSettings& settings, const QwenConfig& config);

}  // namespace facet
