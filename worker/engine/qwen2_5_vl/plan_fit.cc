#include "worker/engine/qwen2_5_vl/plan_fit.h"

#include <algorithm>

namespace facet {
namespace {

// Shortest context worth serving: room for one small image and a question.
constexpr std::int64_t kMinContext = 256;

}  // namespace

Result<std::int64_t> fit_context(const PlanRequest& request, std::int64_t own,
                                 std::int64_t block_tokens,
                                 const std::function<std::uint64_t(std::int64_t)>& needs,
                                 const std::string& of) {
  if (request.max_model_len > own)
    return Error(Code::kInvalidArgument, "max_model_len " + std::to_string(request.max_model_len) +
                                             " is above the model's own " + std::to_string(own));
  std::int64_t context = request.max_model_len > 0 ? request.max_model_len : own;
  // Without a wish, the context shrinks until one sequence of it fits.
  while (request.max_model_len == 0 && needs(context) > request.budget_bytes &&
         context > kMinContext)
    context = std::max(kMinContext, context * 3 / 4 / block_tokens * block_tokens);
  if (needs(context) > request.budget_bytes)
    return Error(Code::kTooLarge, "the model with one sequence of " + std::to_string(context) +
                                      " tokens needs " + bytes_text(needs(context)) + of +
                                      ", the budget has " + bytes_text(request.budget_bytes));
  return context;
}

std::int64_t fit_kv_blocks(const PlanRequest& request, std::uint64_t needs,
                           const FittedSizes& sizes) {
  const std::uint64_t block_bytes =
      static_cast<std::uint64_t>(sizes.block_tokens) * sizes.kv_bytes_per_token;
  const std::uint64_t left = request.budget_bytes - needs;
  return std::min(sizes.kv_blocks * request.max_lanes,
                  sizes.kv_blocks + static_cast<std::int64_t>(left / block_bytes));
}

MemoryPlan plan_of(const PlanRequest& request, const QwenImageSettings& settings,
                   const FittedSizes& sizes) {
  MemoryPlan plan;
  plan.model = request.model;
  plan.family = "qwen2_5_vl";
  plan.type = request.type;
  plan.budget_bytes = request.budget_bytes;
  plan.kv_blocks = static_cast<std::int32_t>(std::min<std::int64_t>(sizes.kv_blocks, 1 << 30));
  plan.kv_block_tokens = static_cast<std::int32_t>(sizes.block_tokens);
  plan.kv_bytes_per_token = sizes.kv_bytes_per_token;
  plan.max_lanes = request.max_lanes;
  plan.max_model_len = static_cast<std::int32_t>(sizes.context);
  plan.max_step_tokens = request.max_step_tokens;
  plan.image_tokens_max = static_cast<std::int32_t>(sizes.image_tokens);
  const std::int64_t side = settings.patch_size * settings.merge_size;
  plan.image_pixels_max = sizes.image_tokens * side * side;
  plan.encoder_rows = static_cast<std::int32_t>(sizes.encoder_rows);
  plan.threads = request.threads;
  return plan;
}

}  // namespace facet
