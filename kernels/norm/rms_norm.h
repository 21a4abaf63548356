// RMS norm, alone and with the residual sum before it. Bound by bytes; one block a row.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/base/launch.h"

namespace facet::kernels {

struct RmsNormShape {
  std::int64_t rows = 0;
  std::int32_t width = 0;  // multiple of 8, at most 16384
  float eps = 1e-6F;
  float weight_offset = 0.0F;       // 1 for Gemma, whose norm is (1 + w)
  bool round_before_weight = true;  // false (Gemma): one rounding, after the product
  DType dtype = DType::kBf16;
};

// out = w * round(x / sqrt(mean(x^2) + eps)). x and out [rows, width] dense, out may be x; w
// [width].
cudaError_t rms_norm(const RmsNormShape& shape, const void* x, const void* w, void* out,
                     const Launch& launch);

// hidden = round(hidden + x); out = norm(hidden). All [rows, width] dense.
cudaError_t add_rms_norm(const RmsNormShape& shape, void* hidden, const void* x, const void* w,
                         void* out, const Launch& launch);

// hidden = round(hidden + x), [count], multiple of 8.
cudaError_t add_into(DType dtype, void* hidden, const void* x, std::int64_t count,
                     const Launch& launch);

}  // namespace facet::kernels
