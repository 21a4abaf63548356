// Conversations as prompt text, family by family, written in C++ instead of running jinja.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace facet {

struct ChatPart {
  enum class Kind { kText, kImage };
  Kind kind = Kind::kText;
  std::string text;  // of a kText part
};

struct ChatMessage {
  std::string role;  // system, user or assistant
  std::vector<ChatPart> parts;
};

// A stretch of the rendered prompt: text of the template, or text of a message.
struct PromptSegment {
  std::string text;
  bool parse_added_tokens = true;  // off for message text: "<|image_pad|>" typed there stays text
};

struct RenderedPrompt {
  std::vector<PromptSegment> segments;  // their texts joined are what the template renders
  std::size_t num_images = 0;           // placeholders, in the order of the images
};

// Qwen2.5-VL: a default system turn unless the first message is one; images where they stand.
// kInvalidArgument for no messages or an unknown role. `add_generation_prompt` opens the answer.
Result<RenderedPrompt> render_qwen2_5_vl(std::span<const ChatMessage> messages,
                                         bool add_generation_prompt = true);

// Checks that the model has a renderer and that a template in its directory (chat_template.jinja,
// chat_template.json, tokenizer_config.json) has the marks that the renderer writes. A directory
// without a template passes. kUnsupported, with the name of what is unknown.
Status check_chat_template(std::string_view model_type, const std::filesystem::path& model_dir);

// Replaces the k-th `image_token_id` by counts[k] copies. kInvalidArgument when the number of
// image tokens in `ids` is not counts.size() or a count is below 1.
Result<std::vector<std::int32_t>> expand_image_tokens(std::span<const std::int32_t> ids,
                                                      std::int32_t image_token_id,
                                                      std::span<const std::int32_t> counts);

}  // namespace facet
