// y = x W^T for one to four rows of x: a decode step of few lanes. Bound by the weights: n * k * 2
// bytes, read once. A warp owns two rows of W, so nothing is reduced between warps, and the sum of
// an output has one order, whatever m is. The first weights are asked for before the kernel waits
// for the one before it: in a chain of these the memory does not rest between two products.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/base/launch.h"

namespace facet::kernels {

inline constexpr int kGemvMaxRows = 4;

enum class GemvEpilogue : std::uint8_t {
  kStore,    // out = round(acc + bias)
  kAddInto,  // out = round(out + round(acc + bias)): the residual sum
  kSiluMul,  // out[m, i] = round(round(silu(round(acc_i))) * round(acc_{n/2 + i})), [m, n / 2]
};

struct GemvShape {
  std::int32_t m = 0;  // 1 .. kGemvMaxRows
  std::int32_t n = 0;  // rows of W; even with kSiluMul, where W is [gate; up]
  std::int32_t k = 0;  // multiple of 8; with a norm at most kGemvMaxNormWidth
  GemvEpilogue epilogue = GemvEpilogue::kStore;
  float eps = 1e-6F;           // of the norm
  DType dtype = DType::kBf16;  // or kFp16
};
inline constexpr int kGemvMaxNormWidth = 8192;

// In device memory, 16-byte aligned.
struct GemvArgs {
  const void* x = nullptr;  // [m, k], rows x_stride elements apart (multiple of 8)
  std::int64_t x_stride = 0;
  const void* norm = nullptr;  // [k] or null: x is taken through rms_norm with these weights first
  const void* weight = nullptr;  // [n, k] row-major; nothing before this kernel writes it
  const void* bias = nullptr;    // [n] or null
  void* out = nullptr;           // rows out_stride elements apart
  std::int64_t out_stride = 0;
};

// Whether the shape is within the contract: with a norm all of x must fit 47 KB of shared memory.
bool gemv_fits(const GemvShape& shape, bool with_norm);

cudaError_t gemv(const GemvShape& shape, const GemvArgs& args, const Launch& launch);

}  // namespace facet::kernels
