// x = gelu(x), the exact one with erf, in place. Bound by 2 * count elements.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/base/launch.h"

namespace facet::kernels {

cudaError_t gelu(DType dtype, void* x, std::int64_t count, const Launch& launch);

}  // namespace facet::kernels
