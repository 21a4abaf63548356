#include "worker/echo/echo_answer.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bit>
#include <memory>
#include <string_view>

#include "common/base/check.h"

namespace facet {
namespace {

// Feeds values into XXH3; every variable part is preceded by its length, so that no two
// different requests feed the same bytes.
class Digest {
 public:
  Digest() : state_(XXH3_createState()) {
    FACET_CHECK(state_ != nullptr);
    XXH3_64bits_reset(state_.get());
  }

  void bytes(const void* data, std::size_t size) { XXH3_64bits_update(state_.get(), data, size); }
  void number(std::uint64_t value) { bytes(&value, sizeof value); }
  void real(double value) { number(std::bit_cast<std::uint64_t>(value)); }
  void text(std::string_view value) {
    number(value.size());
    bytes(value.data(), value.size());
  }
  std::uint64_t value() const { return XXH3_64bits_digest(state_.get()); }

 private:
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  std::unique_ptr<XXH3_state_t, Free> state_;
};

}  // namespace

std::uint64_t echo_prompt_digest(const GenerateRequest& request) {
  Digest digest;
  digest.number(request.messages.size());
  for (const Message& message : request.messages) {
    digest.text(message.role);
    digest.number(message.content.size());
    for (const ContentPart& part : message.content) {
      digest.number(static_cast<std::uint64_t>(part.kind));
      digest.number(part.image);
      digest.text(part.text);
    }
  }
  const SamplingParams& sampling = request.sampling;
  digest.number(sampling.min_tokens);
  for (double value : {sampling.temperature, sampling.top_p, sampling.min_p,
                       sampling.repetition_penalty, sampling.presence_penalty,
                       sampling.frequency_penalty}) {
    digest.real(value);
  }
  digest.number(sampling.top_k);
  digest.number(sampling.seed);
  digest.number(sampling.stop.size());
  for (const std::string& stop : sampling.stop) digest.text(stop);
  return digest.value();
}

std::uint64_t echo_drift_digest(std::uint64_t prompt_digest, std::uint32_t attempt) {
  Digest digest;
  digest.number(prompt_digest);
  digest.number(attempt);
  return digest.value();
}

std::uint64_t echo_pixel_digest(std::span<const ImageView> images) {
  Digest digest;
  digest.number(images.size());
  for (const ImageView& image : images) {
    digest.number(image.width);
    digest.number(image.height);
    digest.bytes(image.pixels, std::size_t{3} * image.width * image.height);
  }
  return digest.value();
}

EchoStep echo_step(std::uint64_t prompt_digest, std::uint64_t pixel_digest,
                   std::span<const std::int32_t> previous) {
  Digest digest;
  digest.number(prompt_digest);
  digest.number(pixel_digest);
  digest.number(previous.size());  // the position
  digest.bytes(previous.data(), previous.size_bytes());
  const std::uint64_t hash = digest.value();
  return {.stop = (hash >> 32) % kEchoStopOneIn == 0,
          .token = static_cast<std::int32_t>(hash % kEchoVocabulary)};
}

EchoText echo_text(std::int32_t token) {
  static constexpr std::array<std::string_view, 8> kWide = {
      "\u00e9", "\u00df", "\u03bb", "\u0436", "\u6f22", "\u2603", "\U0001f431", "\U0001f600"};
  FACET_CHECK(token >= 0 && token < kEchoVocabulary);
  const auto bits = static_cast<std::uint32_t>(token);
  EchoText text;
  text.now = ' ';
  for (std::uint32_t shift = 0; shift < 12; shift += 4) {
    text.now += static_cast<char>('a' + ((bits >> shift) & 15));
  }
  const std::string_view wide = kWide[(bits >> 12) & 7];
  if ((bits >> 15 & 3) == 0) {
    text.held = wide;
  } else {
    text.now += wide;
  }
  return text;
}

std::vector<TokenLogprob> echo_logprobs(std::int32_t token, std::uint32_t count) {
  std::vector<TokenLogprob> logprobs{{token, -static_cast<float>(token % 64) / 8.0F}};
  for (std::uint32_t i = 1; i <= count; ++i)
    logprobs.push_back({static_cast<std::int32_t>((static_cast<std::uint32_t>(token) + i) %
                                                  static_cast<std::uint32_t>(kEchoVocabulary)),
                        -static_cast<float>(i) / 8.0F});
  return logprobs;
}

std::uint32_t echo_image_tokens(std::uint32_t width, std::uint32_t height) {
  const std::uint64_t pixels = std::uint64_t{width} * height;
  const std::uint64_t tokens = (pixels + kEchoPixelsPerToken - 1) / kEchoPixelsPerToken;
  return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(tokens, 1, kEchoMaxImageTokens));
}

std::uint64_t echo_text_tokens(const GenerateRequest& request) {
  std::uint64_t text_bytes = 0;
  for (const Message& message : request.messages) {
    for (const ContentPart& part : message.content) text_bytes += part.text.size();
  }
  return (text_bytes + 3) / 4;
}

}  // namespace facet
