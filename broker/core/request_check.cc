#include "broker/core/request_check.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "common/protocol/limits.h"

namespace facet::core {
namespace {

Error beyond(Code code, const std::string& key, std::uint64_t value, std::uint64_t limit) {
  return Error(code,
               key + " is " + std::to_string(value) + "; the limit is " + std::to_string(limit));
}

Status check_range(const char* key, double value, double low, double high) {
  if (std::isfinite(value) && value >= low && value <= high) return {};
  return Error(Code::kInvalidArgument, std::string(key) + " is " + std::to_string(value) +
                                           ", not between " + std::to_string(low) + " and " +
                                           std::to_string(high));
}

// In reading order the parts name image 0, 1, .. each once.
Status check_images(const GenerateRequest& request) {
  std::uint32_t next = 0;
  for (const Message& message : request.messages) {
    for (const ContentPart& part : message.content) {
      if (part.kind != ContentPart::Kind::kImage) continue;
      if (part.image != next || next >= request.num_images) {
        return Error(Code::kInvalidArgument, "messages name image " + std::to_string(part.image) +
                                                 " where image " + std::to_string(next) + " of " +
                                                 std::to_string(request.num_images) + " is next");
      }
      ++next;
    }
  }
  if (next != request.num_images) {
    return Error(Code::kInvalidArgument, "messages name " + std::to_string(next) + " images; " +
                                             std::to_string(request.num_images) + " were sent");
  }
  return {};
}

Status check_has_content(const GenerateRequest& request) {
  for (const Message& message : request.messages)
    for (const ContentPart& part : message.content)
      if (part.kind == ContentPart::Kind::kImage || !part.text.empty()) return {};
  return Error(Code::kInvalidArgument, "the prompt is empty: no message has text or an image");
}

Status check_sampling(const SamplingParams& p) {
  FACET_TRY_STATUS(check_range("temperature", p.temperature, 0.0, kMaxTemperature));
  FACET_TRY_STATUS(check_range("top_p", p.top_p, kMinTopP, 1.0));
  FACET_TRY_STATUS(check_range("min_p", p.min_p, 0.0, 1.0));
  if (p.repetition_penalty != 0.0) {
    FACET_TRY_STATUS(
        check_range("repetition_penalty", p.repetition_penalty, kMinPenalty, kMaxPenalty));
  }
  FACET_TRY_STATUS(check_range("presence_penalty", p.presence_penalty, -kMaxAdditivePenalty,
                               kMaxAdditivePenalty));
  FACET_TRY_STATUS(check_range("frequency_penalty", p.frequency_penalty, -kMaxAdditivePenalty,
                               kMaxAdditivePenalty));
  if (p.min_tokens > p.max_tokens) {
    return Error(Code::kInvalidArgument, "min_tokens is " + std::to_string(p.min_tokens) +
                                             "; max_tokens is " + std::to_string(p.max_tokens));
  }
  return {};
}

}  // namespace

Status check_request(GenerateRequest& request, const CoreLimits& limits, const ModelFacts* facts) {
  if (request.id.is_zero()) return Error(Code::kInvalidArgument, "id is all zeros, not random");
  if (request.messages.empty()) return Error(Code::kInvalidArgument, "messages is empty");
  if (request.num_images > limits.max_images) {
    return beyond(Code::kTooLarge, "images", request.num_images, limits.max_images);
  }
  if (facts != nullptr && request.num_images > facts->max_images) {
    return beyond(Code::kTooLarge, "images (for the model)", request.num_images, facts->max_images);
  }
  FACET_TRY_STATUS(check_images(request));
  FACET_TRY_STATUS(check_has_content(request));
  SamplingParams& sampling = request.sampling;
  if (sampling.max_tokens == 0) sampling.max_tokens = limits.max_tokens_default;
  if (sampling.max_tokens > limits.max_tokens_limit) {
    return beyond(Code::kTooLarge, "max_tokens", sampling.max_tokens, limits.max_tokens_limit);
  }
  FACET_TRY_STATUS(check_sampling(sampling));
  const auto longest = static_cast<std::uint64_t>(limits.deadline_default / kMillisecond);
  if (request.deadline_ms > longest) {
    return beyond(Code::kTooLarge, "deadline_ms", request.deadline_ms, longest);
  }
  if (request.deadline_ms == 0) request.deadline_ms = static_cast<std::uint32_t>(longest);
  return {};
}

std::uint64_t estimate_text_tokens(const GenerateRequest& request) {
  std::uint64_t bytes = 0;
  for (const Message& message : request.messages) {
    for (const ContentPart& part : message.content) bytes += part.text.size();
  }
  return bytes / 4;  // about four bytes of text a token
}

std::uint64_t estimate_image_tokens(std::uint32_t width, std::uint32_t height,
                                    const ModelFacts* facts) {
  if (facts == nullptr) return 0;
  if (facts->image_pixels_per_token == 0) return facts->image_tokens_min;
  const std::uint64_t tokens = std::uint64_t{width} * height / facts->image_pixels_per_token;
  return std::clamp<std::uint64_t>(tokens, facts->image_tokens_min,
                                   std::max(facts->image_tokens_min, facts->image_tokens_max));
}

}  // namespace facet::core
