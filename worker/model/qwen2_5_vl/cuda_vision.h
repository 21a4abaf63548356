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
  std::span<const float> patches;  // on the host, in the file's order; read before the return
  std::int32_t grid_height = 0, grid_width = 0;
  std::int32_t pool_row = 0;

  std::int64_t num_patches() const { return std::int64_t{grid_height} * grid_width; }
};

class CudaVision {
 public:
  // `image_rows` [encoder rows, out_hidden_size]: where tokens go.
  CudaVision(const QwenConfig& config, const CudaQwenSizes& sizes, const CudaQwenWeights& weights,
             const CudaParts& parts, void* inputs, void* image_rows);

  // At most pass_patches() patches and kPassImages images. Puts the pass on the stream; returns
  // when the host's side of it is free again.
  void encode(std::span<const VisionImage> images, const ProgressTick& tick);

 private:
  struct Pass;
  Pass pack(std::span<const VisionImage> images);
  void send_patches(std::span<const VisionImage> images);
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
  PinnedBuffer host_block_, host_patches_;
};

}  // namespace facet
