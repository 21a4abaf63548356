// The sizes from which all buffers of Qwen2.5-VL on a GPU follow.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/base/dtype.h"
#include "worker/checkpoint/qwen_config.h"

namespace facet {

struct CudaQwenSizes {
  kernels::DType type = kernels::DType::kBf16;
  std::int64_t step_tokens = 0;
  std::int64_t lanes = 0;    // chunks of a step
  std::int64_t context = 0;  // tokens of one sequence
  std::int64_t kv_blocks = 0;
  std::int64_t block_tokens = 16;
  std::int64_t image_tokens = 0;  // of the largest image

  // Past this many patches the matrix products are as fast as they get.
  static constexpr std::int64_t kFullPass = 16384;
  static constexpr std::int64_t kPassImages = 64;

  std::int64_t lane_blocks() const { return (context + block_tokens - 1) / block_tokens; }
  std::int64_t encoder_rows() const { return image_tokens + 2 * step_tokens; }
  // Patches of one pass of the encoder: the largest image, or several that fill the GPU.
  std::int64_t pass_patches(const QwenVisionConfig& vision) const {
    return std::max(image_tokens * vision.merge_unit(), kFullPass);
  }
  // Rows of keys and values that are brought together for prefill chunks with context before them:
  // those of at least one sequence.
  std::int64_t gather_rows() const { return context + step_tokens; }
};

}  // namespace facet
