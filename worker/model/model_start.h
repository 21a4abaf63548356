// From a model directory and a configuration to an engine or a plan.
#pragma once

#include <memory>
#include <string>

#include "common/base/result.h"
#include "common/config/config.h"
#include "worker/engine/engine.h"
#include "worker/engine/memory_plan.h"
#include "worker/engine/model_runner.h"
#include "worker/engine/start_times.h"

namespace facet {

// What `--plan` and the engine share. worker.count divides cores and, without a budget in the
// configuration, a CPU worker's memory.
struct StartOptions {
  std::string directory;
  WorkerConfig worker;
  Dtype dtype = Dtype::kAuto;
  std::uint64_t budget_bytes = 0;  // of this worker; 0 = its share of what is free
  std::uint32_t max_images = 16;
  std::uint32_t worker_index = 0;  // among the workers: which GPU is its own
  LogitsTap logits_tap;            // of tests
  StartTimes* times = nullptr;     // marked where it is not null
};

StartOptions start_options(const Config& config, std::uint32_t worker);

// Reads configurations only. Errors as plan_qwen() and the checkpoint room give them.
Result<MemoryPlan> plan_model(const StartOptions& options);

// Loads the model as planned.
Result<std::unique_ptr<Engine>> start_model_engine(const StartOptions& options,
                                                   const ProgressTick& tick);

}  // namespace facet
