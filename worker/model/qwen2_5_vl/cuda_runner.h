// Qwen2.5-VL on one GPU behind the ModelRunner seam.
#pragma once

#include "worker/model/cuda_module.h"

namespace facet {

// CudaModule::make_qwen_runner.
Result<std::unique_ptr<ModelRunner>> make_qwen_cuda_runner(
    const QwenConfig& config, const QwenImageSettings& settings, const TensorTable& tensors,
    const MemoryPlan& plan, const CudaRunnerOptions& options, const ProgressTick& tick);

}  // namespace facet
