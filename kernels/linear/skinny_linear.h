// y = x W^T for the few rows of a decode step. Bound by the weights: N * K * sizeof(T) bytes, read
// once. Each block owns a run of output rows and all of K, so nothing is reduced between blocks and
// the sum of an output has one order, whatever M is.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/base/launch.h"

namespace facet::kernels {

inline constexpr int kSkinnyMaxRows = 16;

enum class SkinnyEpilogue : std::uint8_t {
  kStore,      // out = round(acc + bias)
  kAddInto,    // out = round(out + round(acc + bias)): the residual sum
  kSiluMul,    // out[m, i] = round(round(silu(round(acc_i))) * round(acc_{N/2 + i})), [M, N / 2]
  kStoreFp32,  // as kStore, rounded to the type and stored as fp32: logits
};

struct SkinnyLinearShape {
  std::int32_t m = 0;  // 1 .. kSkinnyMaxRows
  std::int32_t n = 0;  // rows of W; even with kSiluMul, where W is [gate; up]
  std::int32_t k = 0;  // multiple of 8
  DType dtype = DType::kBf16;
  SkinnyEpilogue epilogue = SkinnyEpilogue::kStore;
  float eps = 1e-6F;  // of the norm
};

// All in device memory, 16-byte aligned.
struct SkinnyLinearArgs {
  const void* x = nullptr;  // [m, k], rows x_stride elements apart (multiple of 8)
  std::int64_t x_stride = 0;
  const void* norm = nullptr;  // [k] or null: x is taken through rms_norm with these weights first
  const void* weight = nullptr;  // [n, k] row-major; constant while the graph runs
  const void* bias = nullptr;    // [n] or null
  void* out = nullptr;           // rows out_stride elements apart
  std::int64_t out_stride = 0;
};

// Whether the shape fits: with a norm all of x must fit into shared memory (m * k up to about
// 57,000 elements on sm_90, 28,000 on sm_86 and sm_89).
bool skinny_linear_fits(const SkinnyLinearShape& shape, bool with_norm);

cudaError_t skinny_linear(const SkinnyLinearShape& shape, const SkinnyLinearArgs& args,
                          const Launch& launch);

// Depth and width of the weight pipeline, for measurements; 0 = as chosen for the device.
struct SkinnyTuning {
  int stages = 0;
};
cudaError_t skinny_linear_tuned(const SkinnyLinearShape& shape, const SkinnyLinearArgs& args,
                                const SkinnyTuning& tuning, const Launch& launch);

}  // namespace facet::kernels
