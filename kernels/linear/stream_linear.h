// out = x W^T for a decode step of up to 64 rows of x, on Hopper. Bound by the weights: n * k * 2
// bytes, read once: the work is cut into equal runs of weights, one for each pair of
// multiprocessors, whatever the shape ("Stream-K", Osama et al., arXiv 2301.03598). Where a run
// ends within an output, the sums of its runs are added in the order of K: the same bits each time.
// The first weights are asked for before the kernel waits for the one before it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/base/launch.h"

namespace facet::kernels {

inline constexpr int kStreamLinearMaxRows = 64;

enum class LinearEpilogue : std::uint8_t {
  kStore,  // out = round(acc + bias)
  // out[m, i] = round(round(silu(round(acc_i + bias_i))) * round(acc_j + bias_j)), j = n/2 + i,
  // [m, n / 2]
  kSiluMul,
};

struct StreamLinearShape {
  std::int32_t m = 0;  // 1 .. kStreamLinearMaxRows
  std::int32_t n = 0;  // rows of W; with kSiluMul, where W is [gate; up], a multiple of 16
  std::int32_t k = 0;  // multiple of 8
  LinearEpilogue epilogue = LinearEpilogue::kStore;
  DType dtype = DType::kBf16;  // or fp16
};

// In device memory, dense, 16-byte aligned.
struct StreamLinearArgs {
  const void* x = nullptr;       // [m, k]
  const void* weight = nullptr;  // [n, k]; nothing before this kernel writes it
  const void* bias = nullptr;    // [n] or null
  void* out = nullptr;           // [m, n], or [m, n / 2] with kSiluMul
  // Of kStreamLinearSumBytes, free for anything between launches on the stream.
  void* sums = nullptr;
  // Of kStreamLinearCounterBytes, zeroed once, then only this kernel's; one per stream.
  void* counters = nullptr;
};
// For 160 multiprocessors, with two unfinished outputs of 128 x 64 in fp32 each.
inline constexpr std::size_t kStreamLinearSumBytes = 160ull * 2 * 128 * kStreamLinearMaxRows * 4;
inline constexpr std::size_t kStreamLinearCounterBytes = 64ull << 10;  // n up to 2 Mi

// Whether the current device and the shape are within the contract.
bool stream_linear_fits(const StreamLinearShape& shape);

// Whether it does and there is more than one output of the kernel's for each pair of
// multiprocessors: with fewer, those that are cut cost more than is won.
bool stream_linear_pays(const StreamLinearShape& shape);

cudaError_t stream_linear(const StreamLinearShape& shape, const StreamLinearArgs& args,
                          const Launch& launch);

}  // namespace facet::kernels
