// The tensors of a Hugging Face directory: model.safetensors, or the shards that
// model.safetensors.index.json names.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/base/result.h"
#include "worker/checkpoint/safetensors.h"

namespace facet {

class Checkpoint {
 public:
  // kNotFound: neither file, or a shard is missing; kCorrupt: an index that disagrees with its
  // shards, a name given twice, or whatever SafetensorsFile::open finds.
  static Result<Checkpoint> open(const std::string& directory);

  const TensorView* find(std::string_view name) const;  // null when absent
  std::vector<std::string> names() const;               // sorted
  std::size_t bytes() const;                            // of all tensors

 private:
  Status add_file(const std::string& path);
  Status check_index(const std::unordered_map<std::string, std::string>& weight_map);

  std::vector<SafetensorsFile> files_;
  // Views into files_; the files' own vectors do not move with them.
  std::unordered_map<std::string, const TensorView*> tensors_;
  std::unordered_map<std::string, std::string> file_of_;
};

}  // namespace facet
