// Golden files of scripts/make_goldens.py, and their images.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/protocol/messages.h"
#include "worker/engine/engine.h"

namespace facet {

struct RgbPixels {
  std::uint32_t width = 0;
  std::uint32_t height = 0;
  std::vector<std::uint8_t> bytes;  // rows of 3 * width
};

// Aborts with a message when the file is no PNG.
RgbPixels read_png(const std::string& path);

struct GoldenCase {
  std::vector<Message> messages;
  std::vector<std::string> images;  // paths under the golden's folder, in the order of the parts
  double repetition_penalty = 1.0;
  std::vector<std::int32_t> prompt_ids;
  std::vector<std::int32_t> output_ids;
  std::string text;
};

// All cases of a golden file.
std::vector<GoldenCase> read_golden_cases(const std::string& path);

// Pixels by path, read once.
class ImageShelf {
 public:
  explicit ImageShelf(std::string folder) : folder_(std::move(folder)) {}
  ImageView view(const std::string& name);  // stays valid with the shelf

 private:
  std::string folder_;
  std::map<std::string, RgbPixels> images_;
};

}  // namespace facet
