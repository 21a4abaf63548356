// The one way a kernel of this room is launched.
#pragma once

#include <cuda_runtime.h>

#include <utility>

#include "kernels/base/launch.h"

namespace facet::kernels {

// Raises the kernel's limit of dynamic shared memory where it needs more than 48 KB; idempotent.
template <class Kernel>
cudaError_t allow_shared(Kernel* kernel, std::size_t bytes) {
  if (bytes <= 48 * 1024) return cudaSuccess;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              static_cast<int>(bytes));
}

// In clusters of `cluster` blocks, of which the grid is a multiple.
template <class... Params, class... Args>
cudaError_t launch_clusters(void (*kernel)(Params...), dim3 grid, dim3 block,
                            std::size_t shared_bytes, unsigned cluster, const Launch& launch,
                            Args&&... args) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return cudaSuccess;
  if (const cudaError_t error = allow_shared(kernel, shared_bytes); error != cudaSuccess)
    return error;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = launch.stream;
  cudaLaunchAttribute attributes[2] = {};
  config.attrs = attributes;
  if (launch.programmatic && device_facts().capability >= 90) {
    cudaLaunchAttribute& attribute = attributes[config.numAttrs++];
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
  }
  if (cluster > 1) {
    cudaLaunchAttribute& attribute = attributes[config.numAttrs++];
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim = {cluster, 1, 1};
  }
  return cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...);
}

template <class... Params, class... Args>
cudaError_t launch_kernel(void (*kernel)(Params...), dim3 grid, dim3 block,
                          std::size_t shared_bytes, const Launch& launch, Args&&... args) {
  return launch_clusters(kernel, grid, block, shared_bytes, 1, launch, std::forward<Args>(args)...);
}

}  // namespace facet::kernels
