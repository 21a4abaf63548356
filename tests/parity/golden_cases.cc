#include "tests/parity/golden_cases.h"

#include <png.h>
#include <xxhash.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

namespace facet {
namespace {

using nlohmann::json;

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  std::abort();
}

Message read_message(const json& from, std::vector<std::string>& images) {
  Message message{from.at("role"), {}};
  const json& content = from.at("content");
  if (content.is_string()) {
    message.content.push_back({ContentPart::Kind::kText, content, 0});
    return message;
  }
  for (const json& part : content) {
    if (part.at("type") == "image") {
      message.content.push_back(
          {ContentPart::Kind::kImage, "", static_cast<std::uint32_t>(images.size())});
      images.push_back(part.at("image"));
    } else {
      message.content.push_back({ContentPart::Kind::kText, part.at("text"), 0});
    }
  }
  return message;
}

}  // namespace

RgbPixels read_png(const std::string& path) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  if (png_image_begin_read_from_file(&image, path.c_str()) == 0) fail(path + ": " + image.message);
  image.format = PNG_FORMAT_RGB;
  RgbPixels pixels{image.width, image.height, std::vector<std::uint8_t>(PNG_IMAGE_SIZE(image))};
  if (png_image_finish_read(&image, nullptr, pixels.bytes.data(), 0, nullptr) == 0)
    fail(path + ": " + image.message);
  return pixels;
}

std::vector<GoldenCase> read_golden_cases(const std::string& path) {
  std::ifstream file(path);
  if (!file) fail(path + ": cannot be read");
  const json root = json::parse(file);
  std::vector<GoldenCase> cases;
  for (const json& from : root.at("cases")) {
    GoldenCase& golden = cases.emplace_back();
    for (const json& message : from.at("messages"))
      golden.messages.push_back(read_message(message, golden.images));
    golden.repetition_penalty = from.at("repetition_penalty");
    golden.prompt_ids = from.at("input_ids").get<std::vector<std::int32_t>>();
    golden.output_ids = from.at("output_ids").get<std::vector<std::int32_t>>();
    golden.text = from.at("text");
  }
  return cases;
}

namespace {

// Integers of three little-endian bytes each, in units of 1 / scale.
std::vector<float> read_packed(const std::string& path, double scale) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail(path + ": cannot be read");
  const std::string bytes(std::istreambuf_iterator<char>(file), {});
  std::vector<float> values(bytes.size() / 3);
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::uint32_t word = 0;
    for (std::size_t k = 3; k-- > 0;)
      word = word << 8 | static_cast<std::uint8_t>(bytes[3 * i + k]);
    const auto value = static_cast<std::int32_t>(word << 8) >> 8;  // sign of the 24th bit
    values[i] = static_cast<float>(value / scale);
  }
  return values;
}

}  // namespace

namespace {

ParityGoldens::Paths read_paths(const json& from) {
  const auto spread = [&from](const char* name) {
    return ParityGoldens::Spread{from.at(name).at("max"), from.at(name).at("mean")};
  };
  return {spread("sdpa"), spread("eager")};
}

}  // namespace

float ParityGoldens::chosen_logit(std::size_t number, std::size_t step) const {
  return logits_.at(2 * (number * cases[number].output_ids.size() + step));
}

float ParityGoldens::probe_logit(std::size_t number, std::size_t step) const {
  return logits_.at(2 * (number * cases[number].output_ids.size() + step) + 1);
}

std::vector<float> ParityGoldens::row(std::size_t number, std::size_t row) const {
  const auto first =
      rows_.begin() + static_cast<std::ptrdiff_t>((number * row_steps.size() + row) * vocab_size);
  return {first, first + static_cast<std::ptrdiff_t>(vocab_size)};
}

ParityGoldens read_parity_goldens(const std::string& folder, const std::string& shape) {
  const std::string path = folder + "/" + shape;
  std::ifstream file(path + ".json");
  if (!file) fail(path + ".json: cannot be read");
  const json root = json::parse(file);
  ParityGoldens goldens;
  goldens.fixture_arguments = "--shape " + shape;
  if (root.at("old_spelling")) goldens.fixture_arguments += " --old-spelling";
  if (root.at("nested_names")) goldens.fixture_arguments += " --nested-names";
  for (const json& from : root.at("cases")) {
    ParityGoldens::Case& golden = goldens.cases.emplace_back();
    for (const json& message : from.at("messages"))
      golden.messages.push_back(read_message(message, golden.images));
    golden.prompt_tokens = from.at("prompt_tokens");
    golden.prompt_crc32 = from.at("prompt_crc32");
    golden.output_ids = from.at("output_ids").get<std::vector<std::int32_t>>();
    golden.min_margin = from.at("min_margin");
    golden.is_tie = from.at("is_tie");
  }
  goldens.row_steps = root.at("row_steps").get<std::vector<std::size_t>>();
  goldens.row_cases = root.at("row_cases");
  goldens.sdpa_max_difference = root.at("sdpa_max_difference");
  goldens.bf16 = read_paths(root.at("bf16_from_fp32"));
  goldens.fp16 = read_paths(root.at("fp16_from_fp32"));
  goldens.logits_ = read_packed(path + ".logits", root.at("logit_scale"));
  goldens.rows_ = read_packed(path + ".rows", root.at("logit_scale"));
  goldens.vocab_size = goldens.rows_.size() / (goldens.row_cases * goldens.row_steps.size());
  return goldens;
}

std::uint32_t crc32_of(const std::vector<std::int32_t>& ids) {
  std::uint32_t crc = 0xffffffff;
  for (const std::int32_t id : ids) {
    for (std::uint32_t k = 0; k < 4; ++k) {
      crc ^= static_cast<std::uint32_t>(id) >> (8 * k) & 0xff;
      for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (0xedb88320 & (0 - (crc & 1)));
    }
  }
  return ~crc;
}

ImageView ImageShelf::view(const std::string& name) {
  auto found = images_.find(name);
  if (found == images_.end()) found = images_.emplace(name, read_png(folder_ + "/" + name)).first;
  const RgbPixels& pixels = found->second;
  const XXH128_hash_t hash = XXH3_128bits(pixels.bytes.data(), pixels.bytes.size());
  return {pixels.bytes.data(), pixels.width, pixels.height,
          hash.high64,         hash.low64,   [] { return true; }};
}

SequenceSpec spec_of(const GoldenPrompt& golden, std::size_t num_tokens, ImageShelf& shelf) {
  SequenceSpec spec;
  spec.id = RequestId::random();
  spec.request.messages = golden.messages;
  spec.request.num_images = static_cast<std::uint32_t>(golden.images.size());
  spec.request.sampling.max_tokens = static_cast<std::uint32_t>(num_tokens);
  spec.request.sampling.ignore_eos = true;
  for (const std::string& image : golden.images) spec.images.push_back(shelf.view(image));
  return spec;
}

}  // namespace facet
