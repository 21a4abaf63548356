#include "tests/parity/golden_cases.h"

#include <png.h>

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

ImageView ImageShelf::view(const std::string& name) {
  auto found = images_.find(name);
  if (found == images_.end()) found = images_.emplace(name, read_png(folder_ + "/" + name)).first;
  const RgbPixels& pixels = found->second;
  return {pixels.bytes.data(), pixels.width, pixels.height, 0, 0, [] { return true; }};
}

}  // namespace facet
