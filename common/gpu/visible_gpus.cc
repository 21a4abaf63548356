#include "common/gpu/visible_gpus.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>

namespace facet {
namespace {

constexpr std::string_view kGpu = "GPU-";
constexpr std::string_view kSlice = "MIG-";

std::string trimmed(const std::string& text) {
  const auto begin = text.find_first_not_of(" \t");
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

bool is_index(const std::string& name) {
  return !name.empty() && name.size() <= 4 &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) { return std::isdigit(c); });
}

std::vector<std::string> entries(const std::string& value) {
  std::vector<std::string> list;
  std::size_t begin = 0;
  while (begin <= value.size()) {
    const std::size_t end = std::min(value.find(',', begin), value.size());
    list.push_back(trimmed(value.substr(begin, end - begin)));
    begin = end + 1;
  }
  return list;
}

bool holds(const std::vector<HostGpu>& gpus, const std::string& uuid) {
  return std::any_of(gpus.begin(), gpus.end(), [&](const HostGpu& g) { return g.uuid == uuid; });
}

}  // namespace

int find_gpu(const std::vector<HostGpu>& gpus, const std::string& name) {
  if (is_index(name)) {
    const int index = std::atoi(name.c_str());
    return static_cast<std::size_t>(index) < gpus.size() ? index : -1;
  }
  if (!name.starts_with(kGpu) && !name.starts_with(kSlice)) return -1;
  std::string lower = name.substr(kGpu.size());
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  lower.insert(0, name, 0, kGpu.size());
  int found = -1;
  for (std::size_t i = 0; i < gpus.size(); ++i) {
    if (!gpus[i].uuid.starts_with(lower)) continue;
    if (found >= 0) return -1;
    found = static_cast<int>(i);
  }
  return found;
}

VisibleGpus visible_gpus(const std::vector<HostGpu>& all, const std::optional<std::string>& value) {
  VisibleGpus visible;
  if (!value) {
    visible.gpus = all;
    return visible;
  }
  visible.num_hidden = all.size();
  if (trimmed(*value).empty()) return visible;
  for (const std::string& entry : entries(*value)) {
    const int index = find_gpu(all, entry);
    HostGpu gpu;
    if (index >= 0) gpu = all[static_cast<std::size_t>(index)];
    const bool is_slice = index < 0 && entry.starts_with(kSlice) && entry.size() > kSlice.size();
    if (is_slice) gpu.uuid = entry;
    const bool is_repeated = holds(visible.gpus, gpu.uuid);
    if ((index < 0 && !is_slice) || is_repeated) {
      visible.warning = "CUDA_VISIBLE_DEVICES=" + *value + ": \"" + entry + "\" " +
                        (is_repeated ? "names a GPU again" : "names no GPU of this host") +
                        ", so the list ends before it; the host has " + gpu_list_text(all);
      return visible;
    }
    visible.gpus.push_back(gpu);
    if (index >= 0) --visible.num_hidden;
  }
  return visible;
}

std::optional<std::string> cuda_visible_devices() {
  const char* value = std::getenv("CUDA_VISIBLE_DEVICES");
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

std::string gpu_list_text(const std::vector<HostGpu>& gpus) {
  std::string text;
  for (std::size_t i = 0; i < gpus.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(i) + " (" +
            (gpus[i].name.empty() ? "" : gpus[i].name + ", ") + gpus[i].uuid + ")";
  }
  return text.empty() ? "none" : text;
}

}  // namespace facet
