// The first half of a gated MLP for prefill, on Hopper: out = round(silu(gate)) * up with
// [gate; up] = x W^T (+ bias), which is never written. Bound by 2 m n k operations of the tensor
// cores; what it saves are 2 m n values written and read.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/base/launch.h"

namespace facet::kernels {

struct GatedLinearShape {
  std::int64_t m = 0;          // rows of x
  std::int32_t n = 0;          // rows of W, half of them of gate; a multiple of 16
  std::int32_t k = 0;          // multiple of 8
  DType dtype = DType::kBf16;  // or fp16
};

// In device memory, dense, 16-byte aligned.
struct GatedLinearArgs {
  const void* x = nullptr;       // [m, k]
  const void* weight = nullptr;  // [n, k]: gate's rows, then up's; no kernel writes it
  const void* bias = nullptr;    // [n] or null
  void* out = nullptr;           // [m, n / 2], rounded as silu_mul() rounds
};

// Whether the current device and the shape are within the contract, and enough rows are there to
// keep it busy.
bool gated_linear_fits(const GatedLinearShape& shape);

cudaError_t gated_linear(const GatedLinearShape& shape, const GatedLinearArgs& args,
                         const Launch& launch);

}  // namespace facet::kernels
