// The GPU side of facet-worker lies in a library of its own, facet-cuda.so beside the program, so
// that one facet-worker runs on hosts with and without CUDA. It is loaded when a GPU is asked for
// or looked for, and never unloaded.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "worker/checkpoint/qwen_config.h"
#include "worker/checkpoint/tensor_table.h"
#include "worker/engine/memory_plan.h"
#include "worker/engine/model_runner.h"
#include "worker/engine/qwen2_5_vl/plan.h"
#include "worker/engine/start_times.h"
#include "worker/image/preprocessor_config.h"

namespace facet {

struct GpuInfo {
  int index = 0;     // among the visible ones
  std::string uuid;  // "GPU-..."
};

struct CudaRunnerOptions {
  std::vector<std::int32_t> ends;  // tokens that end an answer: min_tokens forbids them
  LogitsTap logits_tap;            // for tests: with it, one step at a time is in flight
  StartTimes* times = nullptr;     // marked where it is not null
};

struct CudaModule {
  // Both sides are of one build: compared before anything else is believed.
  const char* version = nullptr;

  // The GPUs that this process sees, in CUDA's order, without making a context on any of them.
  // kUnsupported: no driver, or one too old. No GPU is an empty list.
  Result<std::vector<GpuInfo>> (*list_gpus)() = nullptr;

  // Free bytes of a GPU. Makes a context.
  Result<std::uint64_t> (*free_memory)(int gpu) = nullptr;

  // As plan_qwen(); the budget counts all that the process takes from the GPU.
  Result<MemoryPlan> (*plan_qwen)(const QwenConfig& config, const QwenImageSettings& settings,
                                  const PlanRequest& request) = nullptr;

  // Reserves what was planned and loads the weights. `tensors` is needed during the call only.
  Result<std::unique_ptr<ModelRunner>> (*make_qwen_runner)(
      const QwenConfig& config, const QwenImageSettings& settings, const TensorTable& tensors,
      const MemoryPlan& plan, const CudaRunnerOptions& options, const ProgressTick& tick) = nullptr;
};

// kUnsupported: this build has none, or it does not load here (the loader's words).
Result<const CudaModule*> load_cuda_module();

}  // namespace facet
