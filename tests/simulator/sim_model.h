// What the simulated clients ask and the simulated workers compute: all of it a function of a seed,
// so that every token, text byte and pixel a client sees can be checked.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "broker/core/seams.h"
#include "common/protocol/messages.h"

namespace facet::sim {

using Rng = std::mt19937_64;

inline std::uint64_t below(Rng& rng, std::uint64_t bound) {
  return rng() % bound;
}
inline bool chance(Rng& rng, double p) {
  return static_cast<double>(rng() >> 11) * 0x1.0p-53 < p;
}
std::uint64_t mix(std::uint64_t a, std::uint64_t b);

enum class ImageFault : std::uint32_t {
  kNone,
  kBadHeader,  // the probe refuses it
  kBadPixels,  // the decoder says what is wrong with it
  kEndsChild,  // its child faults, each time
};

// The whole request; its bytes are the body.
struct RequestParams {
  std::uint64_t seed = 0;
  std::uint32_t num_tokens = 1;  // the answer's length
  std::uint32_t max_tokens = 1;
  std::uint32_t num_images = 0;
  std::uint32_t poison_at = UINT32_MAX;  // ends its worker at this token
  std::uint32_t deadline_ms = 0;
  std::uint32_t priority = 0;
  std::uint32_t worker_error = 0;              // the worker refuses it
  ImageFault image_fault = ImageFault::kNone;  // of image 0
};

std::string body_of(const RequestParams& params);
GenerateRequest request_of(const RequestId& id, const RequestParams& params);
RequestParams params_of(std::string_view body);

struct SimImage {
  std::uint64_t seed = 0;
  std::uint32_t width = 0;
  std::uint32_t height = 0;
  std::uint64_t encoded_bytes = 0;
  ImageFault fault = ImageFault::kNone;
};

SimImage image_of(const RequestParams& params, std::uint32_t index);
std::string encode_image(const SimImage& image);
// The image's seed when every sampled word is right, 0 when any is not.
std::uint64_t read_encoded(std::span<const std::uint8_t> bytes, ImageFault& fault);
void write_pixels(std::uint64_t seed, std::span<std::uint8_t> pixels);
bool pixels_are(std::uint64_t seed, std::span<const std::uint8_t> pixels);

std::int32_t token_at(const RequestParams& params, std::uint32_t index);
std::string text_at(const RequestParams& params, std::uint32_t index);
std::string tail_of(const RequestParams& params);

CoreSeams sim_seams();
ModelFacts sim_facts();

}  // namespace facet::sim
