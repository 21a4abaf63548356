// The inner loop of Hopper's products: one thread of a block has boxes of the weights and of x
// copied into the stages of a ring, two warpgroups multiply out of it. A block has kRows rows of W;
// the blocks of a cluster have neighbouring rows and share x: each copies its part of it to all.
#pragma once

#include "kernels/base/hopper.cuh"
#include "kernels/base/tensor_map.h"

namespace facet::kernels::hopper {

inline constexpr int kRows = 128;       // of W in a block: 64 for each warpgroup
inline constexpr int kDepth = 64;       // of K in a stage: 128 bytes
inline constexpr int kConsumers = 256;  // threads
inline constexpr int kThreads = kConsumers + 32;
inline constexpr int kSharedBytes = 227 * 1024;  // that a block may have
inline constexpr int kAlignment = 1024;

// kPending: bytes that are kept for other things.
template <int kTokens, int kCluster, int kKept>
struct PipeShape {
  static_assert(kTokens % (8 * kCluster) == 0);
  static constexpr std::uint32_t kWeightBytes = kRows * kSwizzleBytes;
  static constexpr std::uint32_t kXBytes = kTokens * kSwizzleBytes;
  static constexpr std::uint32_t kStageBytes = kWeightBytes + kXBytes;
  static constexpr int kFit = (kSharedBytes - kAlignment - 512 - kKept) / int{kStageBytes};
  static constexpr int kStages = kFit < 12 ? kFit : 12;
  static constexpr std::size_t kDynamicBytes = kStages * kStageBytes + kKept + kAlignment;
  static constexpr std::uint16_t kAllBlocks = (1u << kCluster) - 1;
  static_assert(kStages >= 3);
};

// Where weights come from: rows `row` .. + kRows of W [n, K], or, gated, of [gate; up] with eight
// rows of gate and the eight of up that belong to them in turn.
__device__ __forceinline__ void copy_weights(std::uint32_t to, const CUtensorMap& map, bool gated,
                                             std::uint32_t barrier, std::uint64_t policy, int k,
                                             int row) {
  if (gated)
    copy_box(to, map, barrier, policy, k, 0, 0, row / 16);
  else
    copy_box(to, map, barrier, policy, k, row);
}

template <class T, int kTokens, int kCluster, int kKept>
class Pipe {
 public:
  using Shape = PipeShape<kTokens, kCluster, kKept>;
  static constexpr int kStages = Shape::kStages;

  struct Barriers {
    std::uint64_t full[kStages], empty[kStages];
  };

  // By all threads, before anything else.
  __device__ Pipe(Barriers& barriers, std::uint32_t stages)
      : full_(shared_address(barriers.full)),
        empty_(shared_address(barriers.empty)),
        stages_(stages),
        rank_(kCluster > 1 ? cluster_rank() : 0) {
    if (threadIdx.x == 0) {
      for (int i = 0; i < kStages; ++i) {
        init_barrier(full_ + 8 * i, 1);
        init_barrier(empty_ + 8 * i, 2 * kCluster);
      }
      publish_barriers();
    }
    if constexpr (kCluster > 1)
      sync_cluster();
    else
      __syncthreads();
  }
  __device__ int rank() const { return static_cast<int>(rank_); }

  // The producer's steps. A stage is filled by both of these, in any order; the first waits until
  // the stage is free.
  __device__ void open(int stage, std::uint32_t phase) const {
    wait_barrier(empty_ + 8 * stage, phase ^ 1);
    expect_bytes(full_ + 8 * stage, Shape::kStageBytes);
  }
  __device__ void fill_weights(int stage, const CUtensorMap& map, bool gated, std::uint64_t policy,
                               int k, int row) const {
    copy_weights(weights_at(stage), map, gated, full_ + 8 * stage, policy, k, row);
  }
  __device__ void fill_x(int stage, const CUtensorMap& map, std::uint64_t policy, int k,
                         int token) const {
    if constexpr (kCluster == 1) {
      copy_box(x_at(stage), map, full_ + 8 * stage, policy, k, token);
    } else {
      constexpr int kPart = kTokens / kCluster;
      copy_box_to(Shape::kAllBlocks, x_at(stage) + rank_ * kPart * kSwizzleBytes, map,
                  full_ + 8 * stage, policy, k, token + static_cast<int>(rank_) * kPart);
    }
  }

  // A consumer's: d = W x^T over the next `count` stages. All threads of a warpgroup.
  __device__ __forceinline__ void run(float (&d)[kTokens / 2], int count) {
    const std::uint32_t group = threadIdx.x / 128;
    int previous = 0;
    for (int i = 0; i < count; ++i) {
      wait_barrier(full_ + 8 * stage_, phase_);
      const std::uint64_t a = matrix_descriptor(weights_at(stage_) + group * 64 * kSwizzleBytes);
      const std::uint64_t b = matrix_descriptor(x_at(stage_));
      begin_products();
#pragma unroll
      for (int k = 0; k < kDepth / 16; ++k)  // 32 bytes further, in units of 16
        multiply<T, kTokens>(d, a + 2 * k, b + 2 * k, i > 0 || k > 0);
      commit_products();
      wait_for_products<1>();
      if (i > 0) release(previous);
      previous = stage_;
      next(stage_, phase_);
    }
    wait_for_products<0>();
    release(previous);
  }

  static __device__ __forceinline__ void next(int& stage, std::uint32_t& phase) {
    if (++stage < kStages) return;
    stage = 0;
    phase ^= 1;
  }

 private:
  __device__ std::uint32_t weights_at(int stage) const {
    return stages_ + static_cast<std::uint32_t>(stage) * Shape::kStageBytes;
  }
  __device__ std::uint32_t x_at(int stage) const {
    return weights_at(stage) + Shape::kWeightBytes;
  }
  __device__ __forceinline__ void release(int stage) const {
    if (threadIdx.x % 128 < kCluster) arrive_at(empty_ + 8 * stage, threadIdx.x % 128);
  }

  std::uint32_t full_, empty_, stages_, rank_;
  int stage_ = 0;
  std::uint32_t phase_ = 0;
};

// W [n, k] in boxes of a block; gated: as copy_weights() says, n a multiple of 16.
inline cudaError_t make_weight_map(DType dtype, const void* weight, std::int64_t n, std::int64_t k,
                                   bool gated, CUtensorMap& map) {
  const auto size = [](std::int64_t count) { return static_cast<std::uint64_t>(count); };
  const std::uint64_t row = size(k) * size_of(dtype);
  if (!gated)
    return make_tensor_map<2>(dtype, weight, {{{size(k), 0, kDepth}, {size(n), row, kRows}}}, map);
  return make_tensor_map<4>(dtype, weight,
                            {{{size(k), 0, kDepth},
                              {8, row, 8},
                              {2, size(n / 2) * row, 2},
                              {size(n / 16), 8 * row, kRows / 16}}},
                            map);
}
// Dense rows [m, k] in boxes of `box` of them, `width` values each.
inline cudaError_t make_row_map(DType dtype, const void* rows, std::int64_t m, std::int64_t k,
                                std::uint32_t box, CUtensorMap& map, std::uint32_t width = kDepth) {
  return make_tensor_map<2>(
      dtype, rows,
      {{{static_cast<std::uint64_t>(k), 0, width},
        {static_cast<std::uint64_t>(m), static_cast<std::uint64_t>(k) * size_of(dtype), box}}},
      map);
}

// The dynamic shared memory, as tensor copies want it.
__device__ __forceinline__ std::uint32_t aligned_shared(const void* dynamic) {
  return (shared_address(dynamic) + kAlignment - 1) & ~std::uint32_t{kAlignment - 1};
}

}  // namespace facet::kernels::hopper
