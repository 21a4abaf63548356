// out = round(silu(gate)) * up, the middle of a gated MLP. Bound by 3 * rows * width elements.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/base/launch.h"

namespace facet::kernels {

// gate_up [rows, 2 * width] holds both side by side; out [rows, width] dense. width: any; multiples
// of 8 are fast.
cudaError_t silu_mul(DType dtype, const void* gate_up, void* out, std::int64_t rows,
                     std::int64_t width, const Launch& launch);

}  // namespace facet::kernels
