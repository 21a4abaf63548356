// The memory plan of Qwen2.5-VL on a CPU (cpu_memory.h). Counts come from the configuration alone;
// no weight is read.
#pragma once

#include <cstdint>
#include <string>

#include "common/base/result.h"
#include "worker/checkpoint/qwen_config.h"
#include "worker/engine/memory_plan.h"
#include "worker/image/preprocessor_config.h"

namespace facet {

struct PlanRequest {
  std::string model;  // for the plan's title
  std::uint64_t budget_bytes = 0;
  ComputeType type = ComputeType::kFp32;
  bool library_products = false;  // libtorch multiplies, and takes weights as stored
  int threads = 1;
  std::int32_t max_lanes = 16;
  std::int32_t max_model_len = 0;  // 0 = the model's own limit, or what fits if that is less
  std::int32_t max_step_tokens = 2048;
  std::int32_t kv_block_tokens = 16;  // rounded up to whole panels of host_layout.h
};

// Most image tokens that smart_resize() gives one image.
std::int64_t most_image_tokens(const QwenImageSettings& settings);

// kTooLarge when the model, or the asked context, does not fit the budget: needs and has. The type
// is fp32 or bf16.
Result<MemoryPlan> plan_qwen(const QwenConfig& config, const QwenImageSettings& settings,
                             const PlanRequest& request);

}  // namespace facet
