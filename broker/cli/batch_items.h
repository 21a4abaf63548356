// What a batch works through: images, each with its question, in a fixed order.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/base/result.h"

namespace facet {

struct BatchItem {
  std::uint32_t index = 0;         // in the whole batch, what was done earlier included
  std::vector<std::string> paths;  // to open; several images only from a questions file
  std::string image;               // JSON text of what the user calls it: "a.png", or ["a", "b"]
  std::string prompt;
  bool has_own_prompt = false;  // from a questions file
  bool follow_links = true;     // false for what was found inside a folder
};

struct BatchItems {
  std::vector<BatchItem> items;
  std::size_t skipped_other = 0;  // files in folders that are not images by their extension
  std::size_t skipped_links = 0;  // symbolic links in folders
};

// Each source is a file, a folder, or (if no such file exists) a pattern with * ? []. Files of a
// folder are taken if their extension is that of a supported image, in the order of their names.
// A path that comes twice ("a.png", "./a.png") is one item. kNotFound: a source does not exist or
// matches nothing.
Result<BatchItems> list_images(const std::vector<std::string>& sources, bool recursive,
                               const std::string& prompt);

// A JSON object a line: "question", and "image": a path or several, relative to the file's folder.
// Other keys are ignored. kInvalidArgument names the line.
Result<BatchItems> list_questions(const std::string& path);

// The whole file; its errors are those of one item. Refuses what is not a regular file, is empty,
// or exceeds the protocol's kMaxImageBytes.
Result<std::shared_ptr<const std::string>> read_image(const std::string& path, bool follow_links);

}  // namespace facet
