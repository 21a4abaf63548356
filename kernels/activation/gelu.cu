#include "kernels/activation/gelu.h"
#include "kernels/base/device.cuh"
#include "kernels/base/launch.cuh"

namespace facet::kernels {
namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void gelu_kernel(T* x, std::int64_t count) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const float value = to_float(x[i]);
  x[i] = from_float<T>(value * 0.5F * (1.0F + erff(value * 0.70710678118654752F)));
}

}  // namespace

cudaError_t gelu(DType dtype, void* x, std::int64_t count, const Launch& launch) {
  if (count < 0) return cudaErrorInvalidValue;
  const dim3 grid(static_cast<unsigned>((count + kThreads - 1) / kThreads));
  return with_type_of(dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    return launch_kernel(gelu_kernel<T>, grid, dim3(kThreads), 0, launch, static_cast<T*>(x),
                         count);
  });
}

}  // namespace facet::kernels
