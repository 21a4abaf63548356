// What Qwen2.5-VL takes of a GPU, item by item. The runner reserves exactly these items, so the
// printed plan and the reservation cannot differ.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "worker/engine/memory_plan.h"
#include "worker/engine/qwen2_5_vl/plan.h"
#include "worker/model/cuda/device_sampler.h"
#include "worker/model/qwen2_5_vl/cuda_sizes.h"
#include "worker/model/qwen2_5_vl/cuda_weights.h"

namespace facet {

// What the process takes that is not in the arena: context and code of the kernels in use.
inline constexpr std::uint64_t kCudaProcessBytes = 1'600'000'000;

std::uint64_t cuda_kv_bytes_per_token(const QwenConfig& config, DType type);

// Bytes of the arena by name.
std::vector<MemoryItem> cuda_arena_items(const QwenConfig& config, const CudaQwenSizes& sizes);
std::uint64_t cuda_item_bytes(const std::vector<MemoryItem>& items, const std::string& name);

// CudaModule::plan_qwen.
Result<MemoryPlan> plan_qwen_cuda(const QwenConfig& config, const QwenImageSettings& settings,
                                  const PlanRequest& request);
DeviceSamplerSizes cuda_sampler_sizes(const QwenConfig& config, const CudaQwenSizes& sizes);
CudaQwenSizes cuda_sizes_of(const MemoryPlan& plan);

}  // namespace facet
