// What one block finds in a row by passes over it: the best, a sum, the place where a running sum
// passes a target (in the order of indices), and the same in the order of scores. All sums are of
// integers: exact, whatever the order. Each function is called by all threads, and each starts
// with a barrier, so that results of the one before may still be read.
#pragma once

#include "kernels/base/device.cuh"

namespace facet::kernels {

inline constexpr int kThreads = 1024;
inline constexpr int kWarps = kThreads / 32;
inline constexpr int kBins = 2048;  // 11 bits of a key a pass
inline constexpr unsigned kAllLanes = 0xffffffffU;

// Grows with the score; both zeros are one.
__device__ __forceinline__ std::uint32_t ordered_key(float score) {
  const std::uint32_t bits = __float_as_uint(score + 0.0F);
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}
__device__ __forceinline__ float from_ordered_key(std::uint32_t key) {
  return __uint_as_float((key & 0x80000000U) != 0 ? key & 0x7fffffffU : ~key);
}

// A score and its index; the larger has the larger score, or the lower index.
struct Best {
  std::uint64_t packed;
  __device__ int index() const { return static_cast<int>(~static_cast<std::uint32_t>(packed)); }
};
inline constexpr std::uint64_t kAbove = ~std::uint64_t{0};

struct Weighed {
  std::uint32_t key;
  std::uint64_t weight;
};
struct Selected {
  std::uint32_t key;
  std::uint64_t below;  // weight of all lower keys
};

struct Block {
  std::uint64_t warps[kWarps];
  std::uint64_t bins[kBins];
  std::uint64_t target;
  std::uint32_t digit;
  int found;
};

__device__ __forceinline__ std::uint64_t warp_scan(std::uint64_t x) {  // inclusive
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const std::uint64_t before = __shfl_up_sync(kAllLanes, x, step);
    if (lane >= step) x += before;
  }
  return x;
}
__device__ __forceinline__ std::uint64_t warp_total(std::uint64_t x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}

__device__ __forceinline__ std::uint64_t packed_of(float score, int i) {
  return static_cast<std::uint64_t>(ordered_key(score)) << 32 | ~static_cast<std::uint32_t>(i);
}

__device__ __forceinline__ Best best_of_threads(Block& block, std::uint64_t best) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    const std::uint64_t other = __shfl_xor_sync(kAllLanes, best, step);
    if (other > best) best = other;
  }
  __syncthreads();
  if (threadIdx.x % 32 == 0) block.warps[threadIdx.x / 32] = best;
  __syncthreads();
  for (const std::uint64_t other : block.warps)
    if (other > best) best = other;
  return {best};
}

// The best whose packed value is below `limit`.
template <class Score>
__device__ __forceinline__ Best best_of(Block& block, int vocab, const Score& score,
                                        std::uint64_t limit) {
  std::uint64_t best = 0;
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x); i < vocab; i += kThreads) {
    const std::uint64_t packed = packed_of(score(i), i);
    if (packed < limit && packed > best) best = packed;
  }
  return best_of_threads(block, best);
}

// The best logit, read 16 bytes at a time where the row is aligned; one that is not finite is
// noted.
template <class T>
__device__ __forceinline__ Best best_of_logits(Block& block, const T* logits, int vocab,
                                               bool& saw_bad) {
  constexpr int kSize = Vec<T>::kSize;
  const bool aligned = reinterpret_cast<std::uintptr_t>(logits) % sizeof(Vec<T>) == 0;
  const int vecs = aligned ? vocab / kSize : 0;
  std::uint64_t best = 0;
  const auto take = [&](float logit, int i) {
    saw_bad |= !isfinite(logit);
    const std::uint64_t packed = packed_of(logit, i);
    if (packed > best) best = packed;
  };
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x); i < vecs; i += kThreads) {
    const Vec<T> vec = load_vec(logits + static_cast<std::int64_t>(i) * kSize);
#pragma unroll
    for (int j = 0; j < kSize; ++j) take(to_float(vec.at[j]), i * kSize + j);
  }
  for (int i = vecs * kSize + static_cast<int>(threadIdx.x); i < vocab; i += kThreads)
    take(to_float(logits[i]), i);
  return best_of_threads(block, best);
}

// The indices of a warp: a run of its own, so that running sums follow the order of indices.
struct Run {
  int begin, end;
};
__device__ __forceinline__ Run run_of(int warp, int vocab) {
  const int size = (vocab + kThreads - 1) / kThreads * 32;
  return {min(warp * size, vocab), min((warp + 1) * size, vocab)};
}

// The sum of weight(i), each warp's stays in block.warps for locate().
template <class Weight>
__device__ __forceinline__ std::uint64_t sum_in_order(Block& block, int vocab,
                                                      const Weight& weight) {
  const Run run = run_of(static_cast<int>(threadIdx.x) / 32, vocab);
  std::uint64_t sum = 0;
#pragma unroll 4
  for (int i = run.begin + static_cast<int>(threadIdx.x) % 32; i < run.end; i += 32)
    sum += weight(i);
  sum = warp_total(sum);
  __syncthreads();
  if (threadIdx.x % 32 == 0) block.warps[threadIdx.x / 32] = sum;
  __syncthreads();
  std::uint64_t total = 0;
  for (const std::uint64_t of_warp : block.warps) total += of_warp;
  return total;
}

// The first index at which the running sum of weight(i) is above target, which is below the sum.
// Right after sum_in_order() of the same weights.
template <class Weight>
__device__ __forceinline__ int locate(Block& block, int vocab, std::uint64_t target,
                                      const Weight& weight) {
  int warp = 0;  // whose run it is in
  while (warp < kWarps - 1 && target >= block.warps[warp]) target -= block.warps[warp++];
  if (static_cast<int>(threadIdx.x) / 32 == warp) {
    const Run run = run_of(warp, vocab);
    const int lane = static_cast<int>(threadIdx.x) % 32;
    for (int first = run.begin; first < run.end; first += 32) {
      const std::uint64_t scan = warp_scan(first + lane < run.end ? weight(first + lane) : 0);
      const unsigned above = __ballot_sync(kAllLanes, scan > target);
      if (above != 0) {
        if (lane == 0) block.found = first + __ffs(static_cast<int>(above)) - 1;
        break;
      }
      target -= __shfl_sync(kAllLanes, scan, 31);
    }
  }
  __syncthreads();
  return block.found;
}

// By the first warp: the bin in which the running sum of the bins passes block.target.
__device__ __forceinline__ void find_bin(Block& block) {
  constexpr int kPerLane = kBins / 32;
  const int first = static_cast<int>(threadIdx.x) * kPerLane;
  std::uint64_t sum = 0;
  for (int bin = first; bin < first + kPerLane; ++bin) sum += block.bins[bin];
  const std::uint64_t scan = warp_scan(sum);
  std::uint64_t target = block.target;
  __syncwarp();
  if (scan <= target || scan - sum > target) return;
  target -= scan - sum;
  int bin = first;
  while (target >= block.bins[bin]) target -= block.bins[bin++];
  block.digit = static_cast<std::uint32_t>(bin);
  block.target = target;
}

// The lowest key such that the weights of all keys up to it sum to more than `target`, which is
// below the sum of all: three passes, the highest digit of the keys first.
template <class Weigh>
__device__ __forceinline__ Selected select(Block& block, int vocab, std::uint64_t target,
                                           const Weigh& weigh) {
  __syncthreads();
  if (threadIdx.x == 0) block.target = target;
  std::uint32_t prefix = 0;
  constexpr int kShifts[] = {21, 10, 0};
  constexpr int kBits[] = {11, 11, 10};
#pragma unroll 1
  for (int pass = 0; pass < 3; ++pass) {
    const int shift = pass == 0 ? kShifts[0] : pass == 1 ? kShifts[1] : kShifts[2];
    const int bits = pass == 2 ? kBits[2] : kBits[0];
    for (int bin = static_cast<int>(threadIdx.x); bin < kBins; bin += kThreads) block.bins[bin] = 0;
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < vocab; i += kThreads) {
      const Weighed at = weigh(i);
      if (at.weight == 0 || (pass > 0 && at.key >> (shift + bits) != prefix)) continue;
      atomicAdd(
          reinterpret_cast<unsigned long long*>(&block.bins[at.key >> shift & ((1U << bits) - 1)]),
          static_cast<unsigned long long>(at.weight));
    }
    __syncthreads();
    if (threadIdx.x < 32) find_bin(block);
    __syncthreads();
    prefix = prefix << bits | block.digit;
  }
  return {prefix, target - block.target};
}

}  // namespace facet::kernels
