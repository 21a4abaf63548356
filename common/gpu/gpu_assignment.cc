#include "common/gpu/gpu_assignment.h"

#include <algorithm>
#include <set>

namespace facet {
namespace {

constexpr std::size_t kMaxWorkers = 64;  // of worker.count

std::string visible_text(const VisibleGpus& visible) {
  std::string text = "visible are " + gpu_list_text(visible.gpus);
  if (!visible.warning.empty()) {
    text += "; " + visible.warning;
  } else if (visible.num_hidden > 0) {
    text += "; CUDA_VISIBLE_DEVICES hides " + std::to_string(visible.num_hidden) + " more";
  }
  return text;
}

Result<std::vector<std::string>> named_gpus(const WorkerConfig& worker,
                                            const VisibleGpus& visible) {
  std::vector<std::string> uuids;
  std::set<std::string> seen;
  for (const std::string& name : worker.gpus) {
    const int index = find_gpu(visible.gpus, name);
    const bool is_slice = index < 0 && name.starts_with("MIG-");
    if (index < 0 && !is_slice) {
      return Error(Code::kNotFound,
                   "worker.gpus: no GPU \"" + name + "\"; " + visible_text(visible));
    }
    const std::string uuid = is_slice ? name : visible.gpus[static_cast<std::size_t>(index)].uuid;
    if (!seen.insert(uuid).second) {
      return Error(Code::kInvalidArgument, "worker.gpus: \"" + name + "\" is " + uuid +
                                               ", named before; workers share no GPU");
    }
    uuids.push_back(uuid);
  }
  if (worker.count > 0) uuids.resize(static_cast<std::size_t>(worker.count));
  return uuids;
}

}  // namespace

bool needs_gpu_list(const WorkerConfig& worker) {
  return worker.engine == EngineKind::kModel && (!worker.gpus.empty() || worker.count == 0);
}

Result<std::vector<std::string>> assign_gpus(const WorkerConfig& worker,
                                             const VisibleGpus& visible) {
  std::vector<std::string> uuids;
  if (!worker.gpus.empty()) {
    uuids = FACET_TRY(named_gpus(worker, visible));
  } else {
    const std::size_t count = std::min(visible.gpus.size(), kMaxWorkers);
    for (std::size_t i = 0; i < count; ++i) uuids.push_back(visible.gpus[i].uuid);
  }
  const std::size_t num_budgets = worker.device_max_memory_bytes.size();
  const std::size_t num_workers = std::max<std::size_t>(1, uuids.size());
  if (num_budgets > 1 && num_budgets != num_workers) {
    return Error(Code::kInvalidArgument,
                 "worker.device_max_memory: " + std::to_string(num_budgets) + " sizes for " +
                     std::to_string(num_workers) + " workers; GPUs " + visible_text(visible));
  }
  return uuids;
}

Config with_gpus(Config config, const std::vector<std::string>& uuids) {
  if (uuids.empty()) return config;
  config.worker.gpus = uuids;
  config.worker.count = static_cast<int>(uuids.size());
  return config;
}

}  // namespace facet
