// The vision tower of Qwen2.5-VL: patches in, one row per image token out.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "worker/checkpoint/qwen_config.h"
#include "worker/engine/model_runner.h"
#include "worker/engine/qwen2_5_vl/vision_layout.h"
#include "worker/model/rotary.h"
#include "worker/model/weights.h"

namespace facet {

// An image after the model's own preprocessing: rows of patch values in the order that the tower
// takes them.
struct ImagePatches {
  std::span<const float> values;  // [grid_height * grid_width, values of a patch]
  std::int32_t grid_height = 0;   // patches
  std::int32_t grid_width = 0;
};

template <class T>
class QwenVision {
 public:
  QwenVision(const QwenVisionConfig& config, const WeightLoader& weights);

  // out [image tokens, out_hidden_size] of T: filled. Ticks once per block.
  void encode(const ImagePatches& image, at::Tensor out, const ProgressTick& tick) const;

 private:
  struct Block {
    at::Tensor norm1, norm2, qkv_w, qkv_b, proj_w, proj_b, gate_up_w, gate_up_b, down_w, down_b;
  };
  struct Buffers;

  at::Tensor embed_patches(const ImagePatches& image, const VisionLayout& layout) const;
  void run_block(const Block& block, bool full_attention, const VisionLayout& layout,
                 const RotaryTable& rotary, Buffers& buffers) const;
  void attend(bool full_attention, const VisionLayout& layout, Buffers& buffers) const;
  void merge(const VisionLayout& layout, Buffers& buffers, at::Tensor& out) const;

  QwenVisionConfig config_;
  at::Tensor patch_w_;  // [hidden, patch values]: the Conv3d's stride is its kernel
  std::vector<Block> blocks_;
  at::Tensor merger_norm_, merger_w0_, merger_b0_, merger_w2_, merger_b2_;
};

}  // namespace facet
