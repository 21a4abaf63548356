// The answer of the echo engine: a pure function of everything a request consists of.
// A lost, doubled, reordered or mixed-up byte anywhere between client and worker changes it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/protocol/messages.h"
#include "worker/engine/engine.h"

namespace facet {

inline constexpr std::int32_t kEchoVocabulary = 1 << 17;
inline constexpr std::uint32_t kEchoStopOneIn = 64;  // chance of a stop at each position

// Digest of what does not change from step to step: roles, parts, sampling parameters and seed.
// The request's id, deadline, priority and attempt are left out: they must not change an answer.
std::uint64_t echo_prompt_digest(const GenerateRequest& request);

// Stands for the prompt's digest where the prompt has the drift mark (echo_hook.h): another one in
// each attempt.
std::uint64_t echo_drift_digest(std::uint64_t prompt_digest, std::uint32_t attempt);

// Digest of all images, read again from where they lie: sizes, order and every pixel.
std::uint64_t echo_pixel_digest(std::span<const ImageView> images);

struct EchoStep {
  bool stop = false;       // the answer ends before this position
  std::int32_t token = 0;  // 0 .. kEchoVocabulary - 1
};

// What stands at position previous.size(), after the tokens `previous`.
EchoStep echo_step(std::uint64_t prompt_digest, std::uint64_t pixel_digest,
                   std::span<const std::int32_t> previous);

// Text of one token. `held` is a last character that appears only with the next token, or at the
// end, as with a tokenizer that cuts characters in two: whoever resumes an answer has to replay it.
struct EchoText {
  std::string now;
  std::string held;
};
EchoText echo_text(std::int32_t token);

// Logprobs of one token: its own, then those of `count` alternatives. A function of the token.
std::vector<TokenLogprob> echo_logprobs(std::int32_t token, std::uint32_t count);

inline constexpr std::uint32_t kEchoMaxTokenTextBytes = 16;  // a held character and a whole token

// Image tokens of the echo model: one for each begun 28 x 28 pixels, at most 16384 an image.
inline constexpr std::uint32_t kEchoPixelsPerToken = 28 * 28;
inline constexpr std::uint32_t kEchoMaxImageTokens = 16384;
std::uint32_t echo_image_tokens(std::uint32_t width, std::uint32_t height);

// Prompt tokens: one for each begun 4 bytes of text, and those of the images.
std::uint64_t echo_text_tokens(const GenerateRequest& request);

}  // namespace facet
