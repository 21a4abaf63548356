#include "worker/engine/qwen2_5_vl/plan.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/base/check.h"
#include "worker/checkpoint/safetensors.h"
#include "worker/engine/host_layout.h"
#include "worker/engine/qwen2_5_vl/cpu_memory.h"
#include "worker/engine/qwen2_5_vl/plan_fit.h"

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

// What the context, the KV pool and the budget leave open.
class Planner {
 public:
  Planner(const QwenConfig& config, const QwenImageSettings& settings, const PlanRequest& request)
      : config_(config), settings_(settings) {
    limits_.item_bytes = bytes_of(request.type);
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
  Bytes needs(const CpuLimits& limits) const { return sum_bytes(items(limits)); }

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
          {"library code", library_code_bytes(limits),
           limits.library_products ? count(kLibraryKernels, " products") : "not needed"},
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
  FACET_CHECK(request.type != ComputeType::kFp16);
  const Planner planner(config, settings, request);
  const std::int64_t block = padded_to_panel(request.kv_block_tokens);
  const auto needs = [&](std::int64_t context) { return planner.needs(planner.smallest(context)); };
  const std::int64_t context =
      FACET_TRY(fit_context(request, config.text.max_position_embeddings, block, needs, ""));
  CpuLimits limits = planner.smallest(context);
  FittedSizes sizes{context,
                    block,
                    limits.kv_blocks,
                    limits.image_tokens,
                    limits.encoder_rows,
                    kv_bytes_per_token(config, limits)};
  sizes.kv_blocks = limits.kv_blocks = fit_kv_blocks(request, planner.needs(limits), sizes);
  MemoryPlan plan = plan_of(request, settings, sizes);
  plan.items = planner.items(limits);
  return plan;
}

}  // namespace facet
