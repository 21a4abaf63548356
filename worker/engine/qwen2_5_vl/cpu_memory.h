// What the CPU runner of Qwen2.5-VL reserves, piece by piece: the plan prints it, and the runner
// takes exactly this from its arena.
#pragma once

#include <cstdint>

#include "worker/checkpoint/qwen_config.h"

namespace facet {

struct CpuLimits {
  std::int64_t item_bytes = 4;    // of a value in the model's dtype
  bool library_products = false;  // weights lie as libtorch takes them, not in panels
  std::int64_t threads = 1;
  std::int64_t step_tokens = 0;     // of one step
  std::int64_t step_chunks = 0;     // of one step: rows of logits
  std::int64_t context_tokens = 0;  // of one sequence
  std::int64_t image_tokens = 0;    // of the largest image
  std::int64_t encoder_rows = 0;    // of the encoder's output pool
  std::int64_t kv_blocks = 0;
  std::int64_t kv_block_tokens = 0;  // a multiple of kPanel
};

// Patches that one pass of the vision tower holds, each image's rounded up to whole panels: the
// largest image, or several small ones.
std::int64_t vision_pass_patches(const QwenConfig& config, const CpuLimits& limits);
std::int64_t vision_max_side(const QwenConfig& config, const CpuLimits& limits);  // patches

// Floats of scratch of one thread.
std::int64_t thread_scratch(const QwenConfig& config);

std::uint64_t weight_bytes(const QwenConfig& config, const CpuLimits& limits);
std::uint64_t step_bytes(const QwenConfig& config, const CpuLimits& limits);  // activations
std::uint64_t logit_bytes(const QwenConfig& config, const CpuLimits& limits);
std::uint64_t scratch_bytes(const QwenConfig& config, const CpuLimits& limits);
std::uint64_t rotary_bytes(const QwenConfig& config, const CpuLimits& limits);  // tables
std::uint64_t vision_bytes(const QwenConfig& config, const CpuLimits& limits);  // activations
std::uint64_t encoder_output_bytes(const QwenConfig& config, const CpuLimits& limits);
std::uint64_t kv_bytes(const QwenConfig& config, const CpuLimits& limits);
std::uint64_t kv_bytes_per_token(const QwenConfig& config, const CpuLimits& limits);

// What libtorch's products make on their way; 0 with panels.
// Products that libtorch's matrix library keeps compiled code for, and what that takes: measured.
inline constexpr int kLibraryKernels = 64;
std::uint64_t library_code_bytes(const CpuLimits& limits);
std::uint64_t library_workspace_bytes(const QwenConfig& config, const CpuLimits& limits);

// All of the above: the size of the arena.
std::uint64_t arena_bytes(const QwenConfig& config, const CpuLimits& limits);

}  // namespace facet
