// Which GPU a worker computes on.
#pragma once

#include <cstdint>
#include <optional>

#include "common/base/result.h"
#include "common/config/config.h"
#include "worker/model/cuda_module.h"

namespace facet {

struct GpuChoice {
  const CudaModule* module = nullptr;
  GpuInfo info;
};

// worker.gpus names them, by index or UUID among those that CUDA_VISIBLE_DEVICES leaves; without it
// worker i takes the i-th visible GPU. None: there is no GPU for this worker, and it computes on
// the CPU. An error where a GPU was asked for by name and cannot be had.
Result<std::optional<GpuChoice>> choose_gpu(const WorkerConfig& worker, std::uint32_t index);

}  // namespace facet
