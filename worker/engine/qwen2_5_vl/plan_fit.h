// What the plans of the family share, on whatever device: how a context and a KV pool are fitted to
// the budget, and what is told of it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "worker/engine/qwen2_5_vl/plan.h"

namespace facet {

// The context to plan for: the one asked for, or the model's own (`own`) shortened by whole blocks
// until it fits. needs(context): bytes with one sequence of it. kInvalidArgument: more than the
// model was made for; kTooLarge: needs and has. `of` stands behind what is needed (" of the GPU").
Result<std::int64_t> fit_context(const PlanRequest& request, std::int64_t own,
                                 std::int64_t block_tokens,
                                 const std::function<std::uint64_t(std::int64_t)>& needs,
                                 const std::string& of);

struct FittedSizes {
  std::int64_t context = 0;       // tokens of one sequence
  std::int64_t block_tokens = 0;  // of one KV block
  std::int64_t kv_blocks = 0;
  std::int64_t image_tokens = 0;  // of the largest image
  std::int64_t encoder_rows = 0;
  std::uint64_t kv_bytes_per_token = 0;
};

// What the budget leaves goes to the KV pool, up to all lanes at the full context. `sizes`: with
// blocks for one sequence, which takes `needs` bytes.
std::int64_t fit_kv_blocks(const PlanRequest& request, std::uint64_t needs,
                           const FittedSizes& sizes);

// The plan but for its items and its device.
MemoryPlan plan_of(const PlanRequest& request, const QwenImageSettings& settings,
                   const FittedSizes& sizes);

}  // namespace facet
