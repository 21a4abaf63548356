// The vision tower of Qwen2.5-VL on a GPU: images of different sizes packed into one pass.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "worker/engine/qwen2_5_vl/vision_layout.h"
#include "worker/model/cuda/cutter.h"
#include "worker/model/cuda/pinned.h"
#include "worker/model/cuda/step_block.h"
#include "worker/model/qwen2_5_vl/cuda_parts.h"
#include "worker/model/qwen2_5_vl/cuda_sizes.h"

namespace facet {

struct VisionBuffers {
  VisionBuffers(Cutter& cutter, const QwenVisionConfig& vision, const CudaQwenSizes& sizes);
  void *patches, *embedded, *hidden, *normed, *projected, *attended, *qkv, *gate_up, *inner;
  void *cells, *merged;
  float *cos, *sin;  // [patches, head_dim / 2]
};

// Tables of angles, and the indices of one pass.
struct VisionInputs {
  VisionInputs(Cutter& cutter, const QwenVisionConfig& vision, const CudaQwenSizes& sizes);
  float *cos_table, *sin_table;  // [max_side, head_dim / 4]
  std::byte* block;
  // Longest side of an image in patches: a strip of the largest number of tokens.
  static std::int64_t max_side(const QwenVisionConfig& vision, const CudaQwenSizes& sizes);
  static std::int64_t block_bytes(const QwenVisionConfig& vision, const CudaQwenSizes& sizes);
};

// Windows of a pass: those at the edges are smaller, so there are more than whole ones would be.
std::int64_t most_windows(const QwenVisionConfig& vision, std::int64_t patches);

struct VisionImage {
  std::int32_t grid_height = 0, grid_width = 0;
  std::int32_t pool_row = 0;

  std::int64_t num_patches() const { return std::int64_t{grid_height} * grid_width; }
};

class CudaVision {
 public:
  // `image_rows` [encoder rows, out_hidden_size]: where tokens go.
  CudaVision(const QwenConfig& config, const CudaQwenSizes& sizes, const CudaQwenWeights& weights,
             const CudaParts& parts, void* inputs, void* image_rows);

  // Touches the kernels of passes of many sizes. The first rows of the output pool are scribbled
  // over.
  void warm_up(const ProgressTick& tick);

  // Where the patches of a pass go, [patches, patch values] in the file's order, image after image.
  void* patches(std::int64_t first) const {
    return parts_.at(buffers_.patches, first * config_.patch_values());
  }
  // Puts the pass over those patches on the stream: at most pass_patches() patches and kPassImages
  // images.
  void encode(std::span<const VisionImage> images, const ProgressTick& tick);

 private:
  struct Pass;
  Pass pack(std::span<const VisionImage> images);
  void embed(const Pass& pass) const;
  void attend(const Pass& pass, bool full) const;
  void run_block(const Pass& pass, std::size_t index) const;
  void merge(const Pass& pass, std::span<const VisionImage> images) const;
  kernels::RmsNormShape norm_shape(std::int64_t rows) const;
  void add_norm(const DeviceMatrix& weight, std::int64_t rows) const;

  QwenVisionConfig config_;
  CudaQwenSizes sizes_;
  const CudaQwenWeights& weights_;
  CudaParts parts_;
  void* image_rows_;
  VisionBuffers buffers_;
  VisionInputs inputs_;
  struct Slot {
    explicit Slot(std::uint64_t bytes) : block(bytes) {}
    PinnedBuffer block;
    CudaEvent copied;
  };
  Slot slots_[2];  // of host memory: passes take turns
  int slot_ = 0;
};

}  // namespace facet
