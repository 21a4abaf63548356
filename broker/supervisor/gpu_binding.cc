#include "broker/supervisor/gpu_binding.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <utility>

#include "common/gpu/gpu_assignment.h"

namespace facet {
namespace {

constexpr const char* kGpuCode = "facet-cuda.so";  // beside the programs
constexpr const char* kUseCpu = "; CUDA_VISIBLE_DEVICES= (empty) keeps the workers on the CPU";

bool is_all_hidden() {
  const auto value = cuda_visible_devices();
  return value && value->find_first_not_of(" \t") == std::string::npos;
}

}  // namespace

Status GpuBinding::ask(const WorkerConfig& worker, const std::string& program_folder) {
  if (!needs_gpu_list(worker)) return {};
  worker_ = worker;
  const bool is_asked = !worker.gpus.empty();
  const std::string code = program_folder + "/" + kGpuCode;
  std::string lack;
  if (!has_gpu_driver()) {
    lack = "this host has no NVIDIA driver (/dev/nvidiactl is missing)";
  } else if (access(code.c_str(), R_OK) != 0) {
    lack = "this build has no GPU code (" + code + " is missing)";
    if (!is_asked && !is_all_hidden()) spdlog::warn("no_gpu_code {}; computing on the CPU", lack);
  }
  if (!lack.empty()) {
    if (!is_asked) return {};
    is_bad_config_ = true;
    return Error(Code::kUnsupported,
                 "worker.gpus: no GPU \"" + worker.gpus.front() + "\": " + lack);
  }
  if (!is_asked && is_all_hidden()) return {};
  query_.emplace(FACET_TRY(HostGpuQuery::start()));
  return {};
}

Status GpuBinding::bind() {
  if (!query_) return {};
  Result<HostGpus> host = query_->finish();
  query_.reset();
  if (!host) return Error(host.error().code, "GPUs: " + host.error().message + kUseCpu);
  const VisibleGpus visible = visible_gpus(host->gpus, cuda_visible_devices());
  if (!visible.warning.empty()) spdlog::warn("gpus_hidden {}", visible.warning);
  Result<std::vector<std::string>> assigned = assign_gpus(worker_, visible);
  if (!assigned) {
    is_bad_config_ = true;
    return assigned.error();
  }
  uuids_ = std::move(*assigned);
  spdlog::info("gpus visible=\"{}\" workers={}", gpu_list_text(visible.gpus), uuids_.size());
  return {};
}

Config GpuBinding::bound(const Config& config) const {
  return with_gpus(config, uuids_);
}

}  // namespace facet
