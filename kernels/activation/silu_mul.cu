#include "kernels/activation/silu_mul.h"
#include "kernels/base/device.cuh"
#include "kernels/base/launch.cuh"

namespace facet::kernels {
namespace {

constexpr int kThreads = 256;

template <class T>
__device__ __forceinline__ T silu_times(T gate, T up) {
  return from_float<T>(round_to<T>(silu(to_float(gate))) * to_float(up));
}

// kSize elements a thread: a vector, or one where the width does not allow it.
template <class T, int kSize>
__global__ void silu_mul_kernel(const T* gate_up, T* out, std::int64_t width) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const std::int64_t column =
      (blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x) * kSize;
  if (column >= width) return;
  const T* gate = gate_up + blockIdx.y * 2 * width + column;
  T* to = out + blockIdx.y * width + column;
  if constexpr (kSize == 1) {
    *to = silu_times(gate[0], gate[width]);
  } else {
    const Vec<T> g = load_vec(gate);
    const Vec<T> u = load_vec(gate + width);
    Vec<T> result;
#pragma unroll
    for (int j = 0; j < kSize; ++j) result.at[j] = silu_times(g.at[j], u.at[j]);
    store_vec(to, result);
  }
}

template <class T, int kSize>
cudaError_t run(const void* gate_up, void* out, std::int64_t rows, std::int64_t width,
                const Launch& launch) {
  // Rows beyond the grid's limit run in further launches.
  constexpr std::int64_t kMaxGridRows = 65535;
  const std::int64_t per_block = kThreads * kSize;
  for (std::int64_t first = 0; first < rows; first += kMaxGridRows) {
    const std::int64_t count = rows - first < kMaxGridRows ? rows - first : kMaxGridRows;
    const dim3 grid(static_cast<unsigned>((width + per_block - 1) / per_block),
                    static_cast<unsigned>(count));
    const cudaError_t error =
        launch_kernel(silu_mul_kernel<T, kSize>, grid, dim3(kThreads), 0, launch,
                      static_cast<const T*>(gate_up) + first * 2 * width,
                      static_cast<T*>(out) + first * width, width);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace

cudaError_t silu_mul(DType dtype, const void* gate_up, void* out, std::int64_t rows,
                     std::int64_t width, const Launch& launch) {
  if (rows < 0 || width < 1) return cudaErrorInvalidValue;
  return with_type_of(dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    if (width % Vec<T>::kSize == 0) return run<T, Vec<T>::kSize>(gate_up, out, rows, width, launch);
    return run<T, 1>(gate_up, out, rows, width, launch);
  });
}

}  // namespace facet::kernels
