#include "worker/engine/qwen2_5_vl/plan.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "worker/checkpoint/qwen_tensors.h"

namespace facet {
namespace {

using Bytes = std::uint64_t;

// A process with libtorch loaded and its buffers made, less the tensors: 130 MB to 200 MB resident.
constexpr Bytes kProcessBytes = 256'000'000;
// Keys gathered and masks made for prefill attention are tiled by this many queries.
constexpr std::int64_t kQueryTile = 256;
// Shortest context worth serving: room for one small image and a question.
constexpr std::int64_t kMinContext = 256;

Bytes bytes(std::int64_t count) {
  return static_cast<Bytes>(count);
}

class Planner {
 public:
  Planner(const QwenConfig& config, const QwenImageSettings& settings, const PlanRequest& request)
      : config_(config), settings_(settings), request_(request), item_(request.bf16 ? 2 : 4) {}

  Bytes weights() const;
  Bytes loading() const;
  Bytes step_activations() const;
  Bytes logits() const;
  Bytes attention(std::int64_t context) const;
  Bytes encoder(std::int64_t image_tokens) const;
  Bytes encoder_rows(std::int64_t image_tokens) const;
  Bytes staging(std::int64_t image_tokens) const;
  Bytes kv_per_token() const;
  std::int64_t largest_image(std::int64_t context) const;

 private:
  const QwenConfig& config_;
  const QwenImageSettings& settings_;
  const PlanRequest& request_;
  std::int64_t item_;  // bytes of one value
};

Bytes Planner::weights() const {
  std::int64_t values = 0;
  for (const TensorSpec& spec : qwen_tensor_specs(config_)) {
    std::int64_t count = 1;
    for (const std::int64_t size : spec.shape) count *= size;
    values += count;
  }
  return bytes(values * item_);
}

// While loading: the copy of one stored matrix, its conversion, and the two parts of a stacked one.
Bytes Planner::loading() const {
  const std::int64_t widest = std::max(config_.text.vocab_size, 2 * config_.text.intermediate_size);
  return bytes(widest * config_.text.hidden_size * (item_ + 4));
}

Bytes Planner::step_activations() const {
  const QwenTextConfig& text = config_.text;
  const std::int64_t qkv = (text.num_heads + 2 * text.num_kv_heads) * text.head_dim();
  const std::int64_t row = 3 * text.hidden_size + qkv + 3 * text.intermediate_size;
  // Twice hidden more: the output of attention before it is copied, last rows before the head.
  return bytes(request_.max_step_tokens *
               ((row + 2 * text.hidden_size) * item_ + text.head_dim() * 4));
}

Bytes Planner::logits() const {
  // In the model's dtype, widened to fp32 if that differs, and one copy that sampling works on.
  return bytes((request_.max_lanes * (request_.bf16 ? 6 : 4) + 4) * config_.text.vocab_size);
}

// Scores of decoding; keys and values of one sequence gathered for a prefill chunk, and its mask.
Bytes Planner::attention(std::int64_t context) const {
  const QwenTextConfig& text = config_.text;
  const std::int64_t scores = request_.threads * (text.num_heads / text.num_kv_heads) * context * 4;
  const std::int64_t gathered = 2 * context * text.num_kv_heads * text.head_dim() * item_;
  return bytes(scores + gathered + kQueryTile * context * 5);
}

Bytes Planner::kv_per_token() const {
  return bytes(config_.text.num_layers * 2 * config_.text.num_kv_heads * config_.text.head_dim() *
               item_);
}

Bytes Planner::encoder(std::int64_t image_tokens) const {
  const QwenVisionConfig& vision = config_.vision;
  const std::int64_t patches = image_tokens * vision.merge_unit();
  // Values in the model's dtype, embedding before and after reordering, then the block's buffers,
  // attention's output before it is copied, and the merger's two inner rows.
  const std::int64_t row = vision.patch_values() + 2 * vision.hidden_size + 2 * vision.hidden_size +
                           3 * vision.hidden_size + 2 * vision.hidden_size +
                           3 * vision.intermediate_size + 2 * vision.hidden_size;
  return bytes(patches * (row * item_ + 2 * vision.head_dim() * 4)) +
         bytes(image_tokens * vision.out_hidden_size * item_);
}

Bytes Planner::encoder_rows(std::int64_t image_tokens) const {
  return bytes((image_tokens + request_.max_step_tokens) * config_.text.hidden_size * item_);
}

// Patch values as the image room writes them, and the resized pixels.
Bytes Planner::staging(std::int64_t image_tokens) const {
  const std::int64_t patches = image_tokens * config_.vision.merge_unit();
  return bytes(patches * (config_.vision.patch_values() * 4 +
                          config_.vision.patch_size * config_.vision.patch_size * 6));
}

// Most tokens that smart_resize() gives an image. Above max_pixels both sides are cut down, but not
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

std::int64_t Planner::largest_image(std::int64_t context) const {
  return std::clamp<std::int64_t>(most_image_tokens(settings_), 1, context);
}

struct Sizes {
  std::int64_t context = 0;
  std::int64_t image_tokens = 0;
  std::int64_t kv_blocks = 0;
};

std::vector<MemoryItem> make_items(const Planner& planner, const Sizes& sizes,
                                   const PlanRequest& request) {
  const Bytes kv = bytes(sizes.kv_blocks * request.kv_block_tokens) * planner.kv_per_token();
  return {{"weights", planner.weights(), request.bf16 ? "bf16" : "fp32"},
          {"loading", planner.loading(), "one matrix on its way, at start only"},
          {"step activations", planner.step_activations(),
           std::to_string(request.max_step_tokens) + " tokens"},
          {"logits", planner.logits(), std::to_string(request.max_lanes) + " rows"},
          {"attention", planner.attention(sizes.context),
           "context of " + std::to_string(sizes.context) + " tokens"},
          {"image encoder", planner.encoder(sizes.image_tokens),
           "one image of " + std::to_string(sizes.image_tokens) + " tokens"},
          {"encoder output", planner.encoder_rows(sizes.image_tokens), ""},
          {"image staging", planner.staging(sizes.image_tokens), ""},
          {"process", kProcessBytes, "libraries, thread stacks, text"},
          {"KV pool", kv, std::to_string(planner.kv_per_token()) + " bytes a token"}};
}

Bytes sum_of(const std::vector<MemoryItem>& items) {
  Bytes sum = 0;
  for (const MemoryItem& item : items) sum += item.bytes;
  return sum;
}

// Sizes of a context, with a KV pool for one sequence of it.
Sizes smallest(const Planner& planner, std::int64_t context, std::int64_t block_tokens) {
  return {context, planner.largest_image(context), (context + block_tokens - 1) / block_tokens};
}

}  // namespace

Result<MemoryPlan> plan_qwen(const QwenConfig& config, const QwenImageSettings& settings,
                             const PlanRequest& request) {
  const Planner planner(config, settings, request);
  const std::int64_t block = request.kv_block_tokens;
  const std::int64_t own = config.text.max_position_embeddings;
  if (request.max_model_len > own)
    return Error(Code::kInvalidArgument, "max_model_len " + std::to_string(request.max_model_len) +
                                             " is above the model's own " + std::to_string(own));
  Sizes sizes = smallest(planner, request.max_model_len > 0 ? request.max_model_len : own, block);
  const auto needs = [&](const Sizes& some) { return sum_of(make_items(planner, some, request)); };
  // Without a wish, the context shrinks until one sequence of it fits.
  while (request.max_model_len == 0 && needs(sizes) > request.budget_bytes &&
         sizes.context > kMinContext)
    sizes = smallest(planner, std::max(kMinContext, sizes.context * 3 / 4 / block * block), block);
  if (needs(sizes) > request.budget_bytes)
    return Error(Code::kTooLarge, "the model with one sequence of " +
                                      std::to_string(sizes.context) + " tokens needs " +
                                      bytes_text(needs(sizes)) + ", the budget has " +
                                      bytes_text(request.budget_bytes));
  // What is left goes to the KV pool, up to all lanes at the full context.
  const std::int64_t left = static_cast<std::int64_t>(request.budget_bytes - needs(sizes));
  const std::int64_t block_bytes = block * static_cast<std::int64_t>(planner.kv_per_token());
  sizes.kv_blocks =
      std::min(sizes.kv_blocks * request.max_lanes, sizes.kv_blocks + left / block_bytes);

  MemoryPlan plan;
  plan.model = request.model;
  plan.family = "qwen2_5_vl";
  plan.dtype = request.bf16 ? "bf16" : "fp32";
  plan.budget_bytes = request.budget_bytes;
  plan.items = make_items(planner, sizes, request);
  plan.kv_blocks = static_cast<std::int32_t>(std::min<std::int64_t>(sizes.kv_blocks, 1 << 30));
  plan.kv_block_tokens = request.kv_block_tokens;
  plan.kv_bytes_per_token = planner.kv_per_token();
  plan.max_lanes = request.max_lanes;
  plan.max_model_len = static_cast<std::int32_t>(sizes.context);
  plan.max_step_tokens = request.max_step_tokens;
  plan.image_tokens_max = static_cast<std::int32_t>(sizes.image_tokens);
  const std::int64_t side = settings.patch_size * settings.merge_size;
  plan.image_pixels_max = sizes.image_tokens * side * side;
  plan.encoder_rows = static_cast<std::int32_t>(sizes.image_tokens + request.max_step_tokens);
  plan.threads = request.threads;
  return plan;
}

}  // namespace facet
