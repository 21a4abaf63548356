// What the CUDA runtime says of the GPUs that this process sees.
#pragma once

#include <vector>

#include "common/base/result.h"
#include "worker/model/cuda_module.h"

namespace facet {

// CudaModule::list_gpus and ::free_memory.
Result<std::vector<GpuInfo>> list_gpus();
Result<std::uint64_t> gpu_free_memory(int gpu);

}  // namespace facet
