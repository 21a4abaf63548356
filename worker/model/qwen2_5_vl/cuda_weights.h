// Where the weights of Qwen2.5-VL lie on a GPU. Shapes come from the configuration alone, so that
// the plan counts the very matrices that are filled later.
#pragma once

#include <cstdint>
#include <vector>

#include "worker/checkpoint/qwen_config.h"
#include "worker/model/cuda/device_arena.h"
#include "worker/model/cuda/matmul.h"
#include "worker/model/cuda/weight_upload.h"

namespace facet {

struct DeviceMatrix {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  void* data = nullptr;  // row-major, on the device

  std::int64_t values() const { return rows * columns; }
};

struct CudaLanguageLayer {
  DeviceMatrix norm1, norm2;
  DeviceMatrix qkv_w, qkv_b;  // q, k and v over one another
  DeviceMatrix o_w, gate_up_w, down_w;
};

struct CudaVisionBlock {
  DeviceMatrix norm1, norm2, qkv_w, qkv_b, proj_w, proj_b;
  DeviceMatrix gate_up_w, gate_up_b;  // gate over up, each padded with zero rows
  DeviceMatrix down_w, down_b;        // padded with zero columns
};

struct CudaQwenWeights {
  // Tensor cores want rows of whole 16 bytes: 3420 inner values are 3424 here. Zero rows of gate
  // and up meet zero columns of down, so the answer is the same.
  static constexpr std::int64_t kInnerMultiple = 8;
  static std::int64_t padded_inner(const QwenVisionConfig& vision) {
    return (vision.intermediate_size + kInnerMultiple - 1) / kInnerMultiple * kInnerMultiple;
  }

  explicit CudaQwenWeights(const QwenConfig& config);

  DeviceMatrix embed, final_norm, head;  // head.data = embed.data when they are tied
  std::vector<CudaLanguageLayer> layers;
  DeviceMatrix patch_w, merger_norm, merger_w0, merger_b0, merger_w2, merger_b2;
  std::vector<CudaVisionBlock> blocks;
  std::int64_t vision_inner = 0;  // padded
  bool tied = false;

  std::uint64_t device_bytes(DType type) const;
  void reserve(DType type, DeviceArena& arena);
  void load(DType type, WeightUpload& upload, cudaStream_t stream);
};

}  // namespace facet
