#include "worker/model/gpu_choice.h"

#include <unistd.h>

#include <string>

namespace facet {
namespace {

// The driver's control device: looked for before libraries of a gigabyte are loaded for nothing.
bool has_driver() {
  return access("/dev/nvidiactl", F_OK) == 0;
}

// A slice of a GPU goes by another UUID than the runtime tells; whoever is bound to one sees it
// alone.
bool is_named(const GpuInfo& gpu, const std::string& name) {
  return gpu.uuid == name || std::to_string(gpu.index) == name || name.starts_with("MIG-");
}

std::string seen(const std::vector<GpuInfo>& gpus) {
  std::string text;
  for (const GpuInfo& gpu : gpus)
    text += (text.empty() ? "" : ", ") + std::to_string(gpu.index) + " (" + gpu.uuid + ")";
  return text.empty() ? "none" : text;
}

}  // namespace

Result<std::optional<GpuChoice>> choose_gpu(const WorkerConfig& worker, std::uint32_t index) {
  const bool is_asked = index < worker.gpus.size();
  if (!is_asked && (!worker.gpus.empty() || !has_driver())) return std::optional<GpuChoice>{};
  const Result<const CudaModule*> module = load_cuda_module();
  if (!module) {
    if (is_asked)
      return Error(module.error().code,
                   "GPU " + worker.gpus[index] +
                       ": the GPU code does not load: " + module.error().message +
                       " (torch's and CUDA's libraries are found by LD_LIBRARY_PATH;"
                       " CUDA_VISIBLE_DEVICES= computes on the CPU)");
    return std::optional<GpuChoice>{};
  }
  const std::vector<GpuInfo> gpus = FACET_TRY((*module)->list_gpus());
  for (const GpuInfo& gpu : gpus)
    if (is_asked ? is_named(gpu, worker.gpus[index]) : gpu.index == static_cast<int>(index))
      return std::optional<GpuChoice>(GpuChoice{*module, gpu});
  if (!is_asked) return std::optional<GpuChoice>{};
  return Error(Code::kNotFound,
               "worker.gpus: no GPU \"" + worker.gpus[index] + "\"; visible are " + seen(gpus));
}

}  // namespace facet
