#include "worker/engine/qwen2_5_vl/cpu_memory.h"

#include <algorithm>

#include "worker/engine/host_layout.h"

namespace facet {
namespace {

// Small images share a pass up to this: more rows make no product faster.
constexpr std::int64_t kSharedPassPatches = 2048;

class Pieces {
 public:
  explicit Pieces(const CpuLimits& limits) : limits_(limits) {}

  void add(std::int64_t count, std::int64_t item_bytes) {
    bytes_ += piece_bytes(count, item_bytes);
  }
  void add(std::int64_t count) { add(count, limits_.item_bytes); }
  void add_linear(std::int64_t columns, std::int64_t depth, bool bias) {
    if (bias) add(columns);
    add((limits_.library_products ? columns : padded_to_panel(columns)) * depth);
  }

  std::uint64_t bytes() const { return bytes_; }

 private:
  const CpuLimits& limits_;
  std::uint64_t bytes_ = 0;
};

std::int64_t window_patches(const QwenVisionConfig& vision) {
  return vision.window_cells() * vision.window_cells() * vision.merge_unit();
}

void add_text_weights(const QwenConfig& config, Pieces& pieces) {
  const QwenTextConfig& text = config.text;
  pieces.add_linear(text.vocab_size, text.hidden_size, false);                      // head
  if (!config.tie_word_embeddings) pieces.add(text.vocab_size * text.hidden_size);  // embedding
  pieces.add(text.hidden_size);
  for (std::int64_t i = 0; i < text.num_layers; ++i) {
    pieces.add(text.hidden_size);
    pieces.add(text.hidden_size);
    pieces.add_linear(text.qkv_width(), text.hidden_size, true);
    pieces.add_linear(text.hidden_size, text.hidden_size, false);
    pieces.add_linear(2 * text.intermediate_size, text.hidden_size, false);
    pieces.add_linear(text.hidden_size, text.intermediate_size, false);
  }
}

void add_vision_weights(const QwenVisionConfig& vision, Pieces& pieces) {
  const std::int64_t merged = vision.merge_unit() * vision.hidden_size;
  pieces.add_linear(vision.hidden_size, vision.patch_values(), false);
  for (std::int64_t i = 0; i < vision.depth; ++i) {
    pieces.add(vision.hidden_size);
    pieces.add(vision.hidden_size);
    pieces.add_linear(3 * vision.hidden_size, vision.hidden_size, true);
    pieces.add_linear(vision.hidden_size, vision.hidden_size, true);
    pieces.add_linear(2 * vision.intermediate_size, vision.hidden_size, true);
    pieces.add_linear(vision.hidden_size, vision.intermediate_size, true);
  }
  pieces.add(vision.hidden_size);
  pieces.add_linear(merged, merged, true);
  pieces.add_linear(vision.out_hidden_size, merged, true);
}

}  // namespace

std::int64_t vision_pass_patches(const QwenConfig& config, const CpuLimits& limits) {
  return std::max(kSharedPassPatches,
                  padded_to_panel(limits.image_tokens * config.vision.merge_unit()));
}

std::int64_t vision_max_side(const QwenConfig& config, const CpuLimits& limits) {
  return limits.image_tokens * config.vision.merge_size;
}

std::int64_t thread_scratch(const QwenConfig& config) {
  const QwenTextConfig& text = config.text;
  const QwenVisionConfig& vision = config.vision;
  const std::int64_t depth =
      std::max({text.hidden_size, text.intermediate_size, vision.patch_values(),
                vision.intermediate_size, vision.merge_unit() * vision.hidden_size});
  // Keys and values of one window and head are laid out next to the scratch of attention.
  const std::int64_t window =
      attention_scratch(vision.head_dim()) +
      2 * padded_to_panel(window_patches(vision)) * padded_to_panel(vision.head_dim());
  return padded_to_panel(
      std::max({gemm_scratch(depth), attention_scratch(text.head_dim()), window}));
}

std::uint64_t weight_bytes(const QwenConfig& config, const CpuLimits& limits) {
  Pieces pieces(limits);
  add_text_weights(config, pieces);
  add_vision_weights(config.vision, pieces);
  return pieces.bytes();
}

std::uint64_t step_bytes(const QwenConfig& config, const CpuLimits& limits) {
  const QwenTextConfig& text = config.text;
  const std::int64_t rows = limits.step_tokens;
  Pieces pieces(limits);
  for (int i = 0; i < 3; ++i) pieces.add(rows * text.hidden_size);  // hidden, normed, attended
  pieces.add(rows * text.qkv_width());
  pieces.add(rows * 2 * text.intermediate_size);
  pieces.add(rows * text.intermediate_size);
  for (int i = 0; i < 2; ++i) pieces.add(rows * text.head_dim() / 2, 4);  // cosines, sines
  return pieces.bytes();
}

std::uint64_t logit_bytes(const QwenConfig& config, const CpuLimits& limits) {
  Pieces pieces(limits);
  pieces.add(limits.step_chunks * config.text.hidden_size);
  pieces.add(limits.step_chunks * config.text.vocab_size);
  pieces.add(limits.step_chunks * config.text.vocab_size, 4);
  return pieces.bytes();
}

std::uint64_t scratch_bytes(const QwenConfig& config, const CpuLimits& limits) {
  return piece_bytes(limits.threads * thread_scratch(config), 4);
}

std::uint64_t rotary_bytes(const QwenConfig& config, const CpuLimits& limits) {
  Pieces pieces(limits);
  for (int i = 0; i < 2; ++i) {
    pieces.add(limits.context_tokens * config.text.head_dim() / 2, 4);
    pieces.add(vision_max_side(config, limits) * (config.vision.head_dim() / 4), 4);
  }
  return pieces.bytes();
}

std::uint64_t vision_bytes(const QwenConfig& config, const CpuLimits& limits) {
  const QwenVisionConfig& vision = config.vision;
  const std::int64_t rows = vision_pass_patches(config, limits);
  Pieces pieces(limits);
  pieces.add(rows * vision.patch_values(), 4);
  for (int i = 0; i < 3; ++i) pieces.add(rows * vision.hidden_size);  // hidden, normed, attended
  pieces.add(rows * 3 * vision.hidden_size);
  pieces.add(rows * 2 * vision.intermediate_size);
  pieces.add(rows * vision.intermediate_size);
  pieces.add(rows / vision.merge_unit() * vision.out_hidden_size);
  for (int i = 0; i < 2; ++i) pieces.add(rows * (vision.head_dim() / 2), 4);  // cosines, sines
  for (int i = 0; i < 2; ++i)  // keys and values of full attention
    pieces.add(rows * vision.num_heads * padded_to_panel(vision.head_dim()));
  return pieces.bytes();
}

std::uint64_t encoder_output_bytes(const QwenConfig& config, const CpuLimits& limits) {
  return piece_bytes(limits.encoder_rows * config.text.hidden_size, limits.item_bytes);
}

std::uint64_t kv_bytes_per_token(const QwenConfig& config, const CpuLimits& limits) {
  const QwenTextConfig& text = config.text;
  return static_cast<std::uint64_t>(text.num_layers * 2 * text.num_kv_heads *
                                    padded_to_panel(text.head_dim()) * limits.item_bytes);
}

std::uint64_t kv_bytes(const QwenConfig& config, const CpuLimits& limits) {
  return static_cast<std::uint64_t>(limits.kv_blocks * limits.kv_block_tokens) *
         kv_bytes_per_token(config, limits);
}

std::uint64_t library_code_bytes(const CpuLimits& limits) {
  constexpr std::uint64_t kKernelBytes = 2'000'000;
  return limits.library_products ? kLibraryKernels * kKernelBytes : 0;
}

// Both sides of the largest product, once more.
std::uint64_t library_workspace_bytes(const QwenConfig& config, const CpuLimits& limits) {
  if (!limits.library_products) return 0;
  const QwenTextConfig& text = config.text;
  const QwenVisionConfig& vision = config.vision;
  const std::int64_t patches = vision_pass_patches(config, limits);
  const std::int64_t merged = vision.merge_unit() * vision.hidden_size;
  const std::int64_t in_text =
      limits.step_tokens *
      (std::max(text.qkv_width(), 2 * text.intermediate_size) + text.hidden_size);
  const std::int64_t in_head = limits.step_chunks * (text.vocab_size + text.hidden_size);
  const std::int64_t in_vision =
      patches * (std::max(vision.patch_values(), 3 * vision.hidden_size) +
                 std::max(vision.hidden_size, 2 * vision.intermediate_size));
  const std::int64_t in_merger =
      patches / vision.merge_unit() * (merged + std::max(merged, vision.out_hidden_size));
  return piece_bytes(std::max({in_text, in_head, in_vision, in_merger}), limits.item_bytes);
}

std::uint64_t arena_bytes(const QwenConfig& config, const CpuLimits& limits) {
  return weight_bytes(config, limits) + step_bytes(config, limits) + logit_bytes(config, limits) +
         scratch_bytes(config, limits) + rotary_bytes(config, limits) +
         vision_bytes(config, limits) + encoder_output_bytes(config, limits) +
         library_workspace_bytes(config, limits) + kv_bytes(config, limits);
}

}  // namespace facet
