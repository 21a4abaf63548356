// Descriptions of tensors for the bulk copies of Hopper (base/hopper.cuh).
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <array>
#include <cstdint>

#include "kernels/base/dtype.h"

namespace facet::kernels {

struct TensorMapAxis {
  std::uint64_t size = 1;  // elements; what a box has beyond them is read as zero
  std::uint64_t stride =
      0;                  // bytes from one to the next, a multiple of 16; of the innermost: unused
  std::uint32_t box = 1;  // at most 256; of the innermost 64
};

// Axes innermost first, two or four of them; 16-bit elements, in shared memory in the swizzle of
// the box's width, 128 or 64 bytes. `data` on the device, 16-byte aligned. cudaErrorNotSupported
// where the driver has no such maps.
template <std::size_t kRank>
cudaError_t make_tensor_map(DType dtype, const void* data,
                            const std::array<TensorMapAxis, kRank>& axes, CUtensorMap& map);

}  // namespace facet::kernels
