#include "worker/checkpoint/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "worker/checkpoint/json_fields.h"

namespace facet {
namespace {

using WeightMap = std::unordered_map<std::string, std::string>;

// Shard names are plain file names: an index must not reach outside its directory.
bool is_plain_name(const std::string& name) {
  const bool is_printable =
      std::none_of(name.begin(), name.end(), [](char c) { return c >= 0 && c < ' '; });
  return !name.empty() && is_printable && name.find('/') == std::string::npos && name != "." &&
         name != "..";
}

Result<WeightMap> read_index(const std::string& path) {
  const nlohmann::json index = FACET_TRY(read_json_object(path, Repeated::kRefused));
  const auto map = index.find("weight_map");
  if (map == index.end() || !map->is_object() || map->empty())
    return Error(Code::kCorrupt, path + ": has no weight_map");
  WeightMap weight_map;
  for (const auto& [name, file] : map->items()) {
    if (!file.is_string() || !is_plain_name(file.get_ref<const std::string&>()))
      return Error(Code::kCorrupt, path + ": " + short_name(name) + " lies in " + short_text(file) +
                                       ", which is not a file name");
    weight_map.emplace(name, file.get<std::string>());
  }
  return weight_map;
}

}  // namespace

Result<Checkpoint> Checkpoint::open(const std::string& directory) {
  namespace fs = std::filesystem;
  const std::string single = directory + "/model.safetensors";
  const std::string index = directory + "/model.safetensors.index.json";
  Checkpoint checkpoint;
  std::error_code ignored;
  if (fs::exists(index, ignored)) {
    const WeightMap weight_map = FACET_TRY(read_index(index));
    std::set<std::string> shards;
    for (const auto& [name, file] : weight_map) shards.insert(file);
    for (const std::string& shard : shards)
      FACET_TRY_STATUS(checkpoint.add_file(directory + "/" + shard));
    FACET_TRY_STATUS(checkpoint.check_index(weight_map));
  } else if (fs::exists(single, ignored)) {
    FACET_TRY_STATUS(checkpoint.add_file(single));
  } else {
    return Error(Code::kNotFound,
                 directory + ": holds neither model.safetensors nor model.safetensors.index.json");
  }
  return checkpoint;
}

Status Checkpoint::add_file(const std::string& path) {
  files_.push_back(FACET_TRY(SafetensorsFile::open(path)));
  for (const TensorView& tensor : files_.back().tensors()) {
    if (!tensors_.emplace(tensor.name, &tensor).second)
      return Error(Code::kCorrupt, path + ": tensor " + short_name(tensor.name) + " is also in " +
                                       file_of_[tensor.name]);
    file_of_[tensor.name] = std::filesystem::path(path).filename();
  }
  return {};
}

Status Checkpoint::check_index(const WeightMap& weight_map) {
  for (const auto& [name, file] : weight_map) {
    const auto found = file_of_.find(name);
    if (found == file_of_.end() || found->second != file)
      return Error(Code::kCorrupt, "model.safetensors.index.json: tensor " + short_name(name) +
                                       " is not in " + file);
  }
  return {};
}

const TensorView* Checkpoint::find(std::string_view name) const {
  const auto found = tensors_.find(std::string(name));
  return found == tensors_.end() ? nullptr : found->second;
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> names;
  for (const auto& [name, view] : tensors_) names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

std::size_t Checkpoint::bytes() const {
  std::size_t sum = 0;
  for (const auto& [name, view] : tensors_) sum += view->bytes;
  return sum;
}

}  // namespace facet
