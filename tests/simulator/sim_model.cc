#include "tests/simulator/sim_model.h"

#include <cstring>

#include "common/base/check.h"

namespace facet::sim {
namespace {

constexpr std::size_t kStride = 4096;  // one word each: enough to tell whose page it is
constexpr std::size_t kHeaderBytes = 32;

std::uint64_t word_at(std::uint64_t seed, std::size_t offset) {
  return mix(seed, offset + 1);
}

}  // namespace

std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  std::uint64_t x = a * 0x9e3779b97f4a7c15 ^ (b + 0x7f4a7c15 + (a << 6) + (a >> 2));
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

std::string body_of(const RequestParams& params) {
  return {reinterpret_cast<const char*>(&params), sizeof params};
}

GenerateRequest request_of(const RequestId& id, const RequestParams& params) {
  GenerateRequest request;
  request.id = id;
  Message message;
  message.role = "user";
  for (std::uint32_t i = 0; i < params.num_images; ++i) {
    ContentPart part;
    part.kind = ContentPart::Kind::kImage;
    part.image = i;
    message.content.push_back(part);
  }
  ContentPart text;
  text.text = body_of(params);
  message.content.push_back(text);
  request.messages.push_back(message);
  request.num_images = params.num_images;
  request.sampling.max_tokens = params.max_tokens;
  request.priority = static_cast<Priority>(params.priority);
  request.deadline_ms = params.deadline_ms;
  return request;
}

RequestParams params_of(std::string_view body) {
  RequestParams params;
  FACET_CHECK(body.size() == sizeof params);
  std::memcpy(&params, body.data(), sizeof params);
  return params;
}

SimImage image_of(const RequestParams& params, std::uint32_t index) {
  SimImage image;
  image.seed = mix(params.seed, 1000 + index) | 1;
  image.width = 2 + static_cast<std::uint32_t>(image.seed >> 8) % 250;
  image.height = 2 + static_cast<std::uint32_t>(image.seed >> 20) % 250;
  image.encoded_bytes = kHeaderBytes + (image.seed >> 32) % 150'000;
  image.fault = index == 0 ? params.image_fault : ImageFault::kNone;
  return image;
}

std::string encode_image(const SimImage& image) {
  std::string bytes(image.encoded_bytes, '\0');
  const auto put = [&bytes](std::size_t at, const auto& value) {
    std::memcpy(bytes.data() + at, &value, sizeof value);
  };
  put(0, image.seed);
  put(8, image.width);
  put(12, image.height);
  put(16, image.fault);
  for (std::size_t at = kStride; at + 8 <= bytes.size(); at += kStride) {
    put(at, word_at(image.seed, at));
  }
  return bytes;
}

std::uint64_t read_encoded(std::span<const std::uint8_t> bytes, ImageFault& fault) {
  std::uint64_t seed = 0;
  std::memcpy(&seed, bytes.data(), sizeof seed);
  std::memcpy(&fault, bytes.data() + 16, sizeof fault);
  for (std::size_t at = kStride; at + 8 <= bytes.size(); at += kStride) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, sizeof word);
    if (word != word_at(seed, at)) return 0;
  }
  return seed;
}

void write_pixels(std::uint64_t seed, std::span<std::uint8_t> pixels) {
  for (std::size_t at = 0; at + 8 <= pixels.size(); at += kStride) {
    const std::uint64_t word = word_at(seed, at);
    std::memcpy(pixels.data() + at, &word, sizeof word);
  }
}

bool pixels_are(std::uint64_t seed, std::span<const std::uint8_t> pixels) {
  for (std::size_t at = 0; at + 8 <= pixels.size(); at += kStride) {
    std::uint64_t word = 0;
    std::memcpy(&word, pixels.data() + at, sizeof word);
    if (word != word_at(seed, at)) return false;
  }
  return true;
}

std::int32_t token_at(const RequestParams& params, std::uint32_t index) {
  return static_cast<std::int32_t>(mix(params.seed, index) & 0x7fffffff);
}

std::string text_at(const RequestParams& params, std::uint32_t index) {
  const std::int32_t token = token_at(params, index);
  return token % 5 == 0 ? std::string() : "w" + std::to_string(token % 1000) + " ";
}

std::string tail_of(const RequestParams& params) {
  return params.seed % 3 == 0 ? "~end" : "";
}

CoreSeams sim_seams() {
  CoreSeams seams;
  seams.probe_image = [](std::span<const std::uint8_t> bytes) -> Result<ProbedImage> {
    ProbedImage probed;
    ImageFault fault{};
    if (bytes.size() < kHeaderBytes) return Error(Code::kInvalidArgument, "too short");
    std::memcpy(&probed.width, bytes.data() + 8, 4);
    std::memcpy(&probed.height, bytes.data() + 12, 4);
    std::memcpy(&fault, bytes.data() + 16, 4);
    if (fault == ImageFault::kBadHeader) return Error(Code::kInvalidArgument, "bad header");
    probed.format = 1;
    return probed;
  };
  seams.parse_request = [](std::string_view body) -> Result<GenerateRequest> {
    if (body.size() != sizeof(RequestParams)) return Error(Code::kCorrupt, "wrong size");
    return request_of({}, params_of(body));
  };
  return seams;
}

ModelFacts sim_facts() {
  ModelFacts facts;
  facts.name = facts.family = "sim";
  facts.max_model_len = 4096;
  facts.max_images = 8;
  facts.max_token_text_bytes = 8;
  facts.image_pixels_per_token = 784;
  facts.image_tokens_min = 4;
  facts.image_tokens_max = 1280;
  return facts;
}

}  // namespace facet::sim
