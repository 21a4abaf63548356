#include "kernels/base/device.cuh"
#include "kernels/base/launch.cuh"
#include "kernels/sampling/argmax_rows.h"

namespace facet::kernels {
namespace {

constexpr int kThreads = 1024;
constexpr int kNone = 0x7fffffff;

// A score and where it stands; NaN beats everything and stays.
struct Best {
  float score = -INFINITY;
  int index = kNone;

  __device__ void take(float other, int at) {
    if (isnan(score)) return;
    if (isnan(other) || other > score || (other == score && at < index)) {
      score = other;
      index = at;
    }
  }
};

__device__ Best warp_best(Best best) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    const float score = __shfl_xor_sync(0xffffffffU, best.score, step);
    const int index = __shfl_xor_sync(0xffffffffU, best.index, step);
    if (index != kNone) best.take(score, index);
  }
  return best;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    argmax_kernel(const T* logits, std::int32_t* out, std::int64_t width) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  __shared__ Best parts[kThreads / 32];
  const T* row = logits + static_cast<std::int64_t>(blockIdx.x) * width;
  Best best;
  for (std::int64_t i = threadIdx.x; i < width; i += kThreads)
    best.take(to_float(row[i]), static_cast<int>(i));
  best = warp_best(best);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = best;
  __syncthreads();
  if (threadIdx.x >= 32) return;
  best = warp_best(parts[threadIdx.x]);
  if (threadIdx.x == 0) out[blockIdx.x] = isnan(best.score) ? -1 : best.index;
}

}  // namespace

cudaError_t argmax_rows(DType dtype, const void* logits, std::int32_t* best, std::int64_t rows,
                        std::int64_t width, const Launch& launch) {
  if (rows < 0 || rows > 0x7fffffff || width < 1 || width >= kNone) return cudaErrorInvalidValue;
  const dim3 grid(static_cast<unsigned>(rows));
  return with_type_of(dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    return launch_kernel(argmax_kernel<T>, grid, dim3(kThreads), 0, launch,
                         static_cast<const T*>(logits), best, width);
  });
}

}  // namespace facet::kernels
