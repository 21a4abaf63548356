#include "worker/engine/qwen2_5_vl/plan.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "worker/checkpoint/safetensors.h"
#include "worker/engine/host_layout.h"
#include "worker/engine/qwen2_5_vl/cpu_memory.h"

namespace facet {

// Above max_pixels both sides are cut down, but not
// below one token; below min_pixels both are rounded up, which matters most for strips.
std::int64_t most_image_tokens(const QwenImageSettings& settings) {
  const auto side = static_cast<double>(settings.patch_size * settings.merge_size);
  constexpr double kMaxAspect = 200.0;  // smart_resize() refuses more
  const double largest = static_cast<double>(settings.max_pixels) / (side * side);
  const double smallest = static_cast<double>(settings.min_pixels) / (side * side);
  double most = largest;
  if (largest < kMaxAspect) most = std::max(most, std::floor(std::sqrt(kMaxAspect * largest)));
  const double longest = std::sqrt(kMaxAspect * smallest);
  for (double rows = 1.0; rows <= std::sqrt(smallest) + 1.0; ++rows) {
    const double columns = rows == 1.0 ? longest : std::min(longest, smallest / (rows - 1.0));
    most = std::max(most, rows * std::ceil(columns));
  }
  return static_cast<std::int64_t>(most);
}

namespace {

using Bytes = std::uint64_t;

// A process with libtorch loaded and its buffers made, less the tensors: 130 MB to 200 MB resident.
constexpr Bytes kProcessBytes = 256'000'000;
// Shortest context worth serving: room for one small image and a question.
constexpr std::int64_t kMinContext = 256;

// What the context, the KV pool and the budget leave open.
class Planner {
 public:
  Planner(const QwenConfig& config, const QwenImageSettings& settings, const PlanRequest& request)
      : config_(config), settings_(settings) {
    limits_.item_bytes = request.bf16 ? 2 : 4;
    limits_.library_products = request.library_products;
    limits_.threads = request.threads;
    limits_.step_tokens = request.max_step_tokens;
    limits_.step_chunks = request.max_lanes;
    limits_.kv_block_tokens = padded_to_panel(request.kv_block_tokens);
  }

  // Limits of a context, with a KV pool for one sequence of it.
  CpuLimits smallest(std::int64_t context) const {
    CpuLimits limits = limits_;
    limits.context_tokens = context;
    limits.image_tokens = std::clamp<std::int64_t>(most_image_tokens(settings_), 1, context);
    limits.encoder_rows = limits.image_tokens + limits.step_tokens;
    limits.kv_blocks = (context + limits.kv_block_tokens - 1) / limits.kv_block_tokens;
    return limits;
  }

  std::vector<MemoryItem> items(const CpuLimits& limits) const;
  Bytes needs(const CpuLimits& limits) const {
    Bytes sum = 0;
    for (const MemoryItem& item : items(limits)) sum += item.bytes;
    return sum;
  }

 private:
  const QwenConfig& config_;
  const QwenImageSettings& settings_;
  CpuLimits limits_;
};

std::vector<MemoryItem> Planner::items(const CpuLimits& limits) const {
  const auto count = [](std::int64_t n, const char* of) { return std::to_string(n) + of; };
  return {{"weights", weight_bytes(config_, limits), limits.item_bytes == 2 ? "bf16" : "fp32"},
          {"step activations", step_bytes(config_, limits), count(limits.step_tokens, " tokens")},
          {"logits", logit_bytes(config_, limits), count(limits.step_chunks, " rows")},
          {"scratch", scratch_bytes(config_, limits), count(limits.threads, " threads")},
          {"library workspace", library_workspace_bytes(config_, limits),
           limits.library_products ? "of libtorch's products" : "not needed"},
          {"rotary tables", rotary_bytes(config_, limits),
           "context of " + count(limits.context_tokens, " tokens")},
          {"image encoder", vision_bytes(config_, limits),
           count(vision_pass_patches(config_, limits), " patches in a pass, the largest image ") +
               count(limits.image_tokens, " tokens")},
          {"encoder output", encoder_output_bytes(config_, limits),
           count(limits.encoder_rows, " image tokens")},
          {"KV pool", kv_bytes(config_, limits),
           count(static_cast<std::int64_t>(kv_bytes_per_token(config_, limits)), " bytes a token")},
          {"loading", static_cast<Bytes>(kLoadingWindow), "file pages, at start only"},
          {"process", kProcessBytes, "libraries, thread stacks, text, resizing"}};
}

}  // namespace

Result<MemoryPlan> plan_qwen(const QwenConfig& config, const QwenImageSettings& settings,
                             const PlanRequest& request) {
  const Planner planner(config, settings, request);
  const std::int64_t block = padded_to_panel(request.kv_block_tokens);
  const std::int64_t own = config.text.max_position_embeddings;
  if (request.max_model_len > own)
    return Error(Code::kInvalidArgument, "max_model_len " + std::to_string(request.max_model_len) +
                                             " is above the model's own " + std::to_string(own));
  CpuLimits limits = planner.smallest(request.max_model_len > 0 ? request.max_model_len : own);
  // Without a wish, the context shrinks until one sequence of it fits.
  while (request.max_model_len == 0 && planner.needs(limits) > request.budget_bytes &&
         limits.context_tokens > kMinContext)
    limits = planner.smallest(std::max(kMinContext, limits.context_tokens * 3 / 4 / block * block));
  if (planner.needs(limits) > request.budget_bytes)
    return Error(Code::kTooLarge, "the model with one sequence of " +
                                      std::to_string(limits.context_tokens) + " tokens needs " +
                                      bytes_text(planner.needs(limits)) + ", the budget has " +
                                      bytes_text(request.budget_bytes));
  // What is left goes to the KV pool, up to all lanes at the full context.
  const Bytes left = request.budget_bytes - planner.needs(limits);
  const Bytes block_bytes = static_cast<Bytes>(block) * kv_bytes_per_token(config, limits);
  limits.kv_blocks = std::min(limits.kv_blocks * request.max_lanes,
                              limits.kv_blocks + static_cast<std::int64_t>(left / block_bytes));

  MemoryPlan plan;
  plan.model = request.model;
  plan.family = "qwen2_5_vl";
  plan.dtype = request.bf16 ? "bf16" : "fp32";
  plan.budget_bytes = request.budget_bytes;
  plan.items = planner.items(limits);
  plan.kv_blocks = static_cast<std::int32_t>(std::min<std::int64_t>(limits.kv_blocks, 1 << 30));
  plan.kv_block_tokens = static_cast<std::int32_t>(block);
  plan.kv_bytes_per_token = kv_bytes_per_token(config, limits);
  plan.max_lanes = request.max_lanes;
  plan.max_model_len = static_cast<std::int32_t>(limits.context_tokens);
  plan.max_step_tokens = request.max_step_tokens;
  plan.image_tokens_max = static_cast<std::int32_t>(limits.image_tokens);
  const std::int64_t side = settings.patch_size * settings.merge_size;
  plan.image_pixels_max = limits.image_tokens * side * side;
  plan.encoder_rows = static_cast<std::int32_t>(limits.encoder_rows);
  plan.threads = request.threads;
  return plan;
}

}  // namespace facet
