#include "worker/engine/qwen2_5_vl/input_processor.h"

#include <algorithm>
#include <utility>

#include "worker/image/qwen_patches.h"
#include "worker/text/chat_template.h"
#include "worker/text/tokenizer.h"

namespace facet {
namespace {

std::vector<ChatMessage> to_chat(const GenerateRequest& request,
                                 std::vector<std::uint32_t>& image_order) {
  std::vector<ChatMessage> chat;
  for (const Message& message : request.messages) {
    ChatMessage& turn = chat.emplace_back();
    turn.role = message.role;
    for (const ContentPart& part : message.content) {
      if (part.kind == ContentPart::Kind::kImage) {
        image_order.push_back(part.image);
        turn.parts.push_back({ChatPart::Kind::kImage, {}});
      } else {
        turn.parts.push_back({ChatPart::Kind::kText, part.text});
      }
    }
  }
  return chat;
}

bool has_content(const GenerateRequest& request) {
  for (const Message& message : request.messages)
    for (const ContentPart& part : message.content)
      if (part.kind == ContentPart::Kind::kImage || !part.text.empty()) return true;
  return false;
}

class QwenInputProcessor final : public InputProcessor {
 public:
  QwenInputProcessor(Tokenizer tokenizer, const QwenConfig& config,
                     const QwenImageSettings& settings, const QwenInputLimits& limits)
      : tokenizer_(std::move(tokenizer)), config_(config), settings_(settings), limits_(limits) {}

  Result<Prompt> build(const GenerateRequest& request,
                       std::span<const ImageView> images) const override;
  const Tokenizer& tokenizer() const override { return tokenizer_; }

 private:
  Result<ImageSpan> measure(std::uint32_t index, std::span<const ImageView> images) const;

  Tokenizer tokenizer_;
  QwenConfig config_;
  QwenImageSettings settings_;
  QwenInputLimits limits_;
};

ImageSize size_of(const ImageView& image) {
  return {image.height, image.width};
}

Result<ImageSpan> QwenInputProcessor::measure(std::uint32_t index,
                                              std::span<const ImageView> images) const {
  if (index >= images.size())
    return Error(Code::kInvalidArgument, "a message names image " + std::to_string(index) +
                                             " but the request has " +
                                             std::to_string(images.size()));
  const std::string name = "image " + std::to_string(index);
  const auto plan = plan_qwen_image(size_of(images[index]), settings_);
  if (!plan) return Error(plan.error().code, name + ": " + plan.error().message);
  if (plan->num_tokens > limits_.image_tokens_max)
    return Error(Code::kTooLarge, name + ": needs " + std::to_string(plan->num_tokens) +
                                      " image tokens, at most " +
                                      std::to_string(limits_.image_tokens_max) +
                                      " fit the memory planned for the image encoder");
  return ImageSpan{static_cast<std::int32_t>(index), 0, static_cast<std::int32_t>(plan->num_tokens),
                   static_cast<std::int32_t>(plan->grid_h),
                   static_cast<std::int32_t>(plan->grid_w)};
}

Result<Prompt> QwenInputProcessor::build(const GenerateRequest& request,
                                         std::span<const ImageView> images) const {
  if (images.size() > limits_.max_images)
    return Error(Code::kTooLarge, "the request has " + std::to_string(images.size()) +
                                      " images, at most " + std::to_string(limits_.max_images) +
                                      " are taken");
  if (!has_content(request))
    return Error(Code::kInvalidArgument, "the prompt is empty: no message has text or an image");
  std::vector<std::uint32_t> image_order;
  const std::vector<ChatMessage> chat = to_chat(request, image_order);
  const RenderedPrompt rendered = FACET_TRY(render_qwen2_5_vl(chat));
  std::vector<TextSegment> segments;
  for (const PromptSegment& segment : rendered.segments)
    segments.push_back({segment.text, segment.parse_added_tokens});
  const auto short_ids = FACET_TRY(tokenizer_.encode(segments));

  Prompt prompt;
  std::vector<std::int32_t> counts;
  for (const std::uint32_t index : image_order) {
    prompt.images.push_back(FACET_TRY(measure(index, images)));
    counts.push_back(prompt.images.back().count);
  }
  prompt.token_ids = FACET_TRY(expand_image_tokens(short_ids, config_.image_token_id, counts));
  auto next = prompt.token_ids.begin();
  for (ImageSpan& span : prompt.images) {
    next = std::find(next, prompt.token_ids.end(), config_.image_token_id);
    span.first = static_cast<std::int32_t>(next - prompt.token_ids.begin());
    next += span.count;
  }
  for (const std::int32_t id : prompt.token_ids)
    if (id >= config_.text.vocab_size)
      return Error(Code::kInvalidArgument, "the prompt holds token " + std::to_string(id) +
                                               ", which the model has no embedding for");
  fill_mrope_positions(static_cast<std::int32_t>(config_.vision.merge_size), prompt);
  return prompt;
}

}  // namespace

void fill_mrope_positions(std::int32_t merge_size, Prompt& prompt) {
  const auto num_tokens = static_cast<std::int32_t>(prompt.token_ids.size());
  prompt.positions.clear();
  std::int32_t next = 0;  // position of the next text token
  auto image = prompt.images.begin();
  for (std::int32_t at = 0; at < num_tokens;) {
    if (image == prompt.images.end() || at < image->first) {
      prompt.positions.push_back({next, next, next});
      ++next;
      ++at;
      continue;
    }
    const std::int32_t rows = image->grid_height / merge_size;
    const std::int32_t columns = image->grid_width / merge_size;
    for (std::int32_t row = 0; row < rows; ++row)
      for (std::int32_t column = 0; column < columns; ++column)
        prompt.positions.push_back({next, next + row, next + column});
    next += std::max(rows, columns);
    at += image->count;
    ++image;
  }
  prompt.position_delta = next - num_tokens;
}

Status check_image_settings(const QwenImageSettings& settings, const QwenConfig& config) {
  const QwenVisionConfig& vision = config.vision;
  if (settings.patch_size == vision.patch_size && settings.merge_size == vision.merge_size &&
      settings.temporal_patch_size == vision.temporal_patch_size)
    return {};
  return Error(Code::kInvalidArgument,
               "preprocessor_config.json and config.json disagree on patch_size, merge_size or "
               "temporal_patch_size");
}

Result<std::unique_ptr<InputProcessor>> make_qwen_input_processor(const std::string& directory,
                                                                  const QwenConfig& config,
                                                                  const QwenImageSettings& settings,
                                                                  const QwenInputLimits& limits) {
  FACET_TRY_STATUS(check_image_settings(settings, config));
  FACET_TRY_STATUS(check_chat_template("qwen2_5_vl", directory));
  Tokenizer tokenizer = FACET_TRY(Tokenizer::load(directory));
  return std::make_unique<QwenInputProcessor>(std::move(tokenizer), config, settings, limits);
}

}  // namespace facet
