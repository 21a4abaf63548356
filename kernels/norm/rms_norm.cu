#include "kernels/base/device.cuh"
#include "kernels/base/launch.cuh"
#include "kernels/norm/rms_norm.h"

namespace facet::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kMaxWidth = 16384;

// The sum over the block, in one order: threads of a warp by halves, then warps by rank.
__device__ float block_sum(float x, float* partial) {
  x = warp_sum(x);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = x;
  __syncthreads();
  float sum = 0.0F;
#pragma unroll
  for (int warp = 0; warp < kWarps; ++warp) sum += partial[warp];
  return sum;
}

// kVecs: vectors of 16 bytes that a thread holds; the row is read once.
template <class T, int kVecs, bool kAdd>
__global__ void __launch_bounds__(kThreads)
    rms_norm_kernel(T* hidden, const T* x, const T* w, T* out, int width, float eps,
                    float weight_offset, bool round_before_weight) {
  __shared__ float partial[kWarps];
  constexpr int kSize = Vec<T>::kSize;
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * width;
  wait_for_previous_kernel();
  let_next_kernel_start();
  Vec<T> values[kVecs];
  float sum = 0.0F;
#pragma unroll
  for (int i = 0; i < kVecs; ++i) {
    const int at = (i * kThreads + static_cast<int>(threadIdx.x)) * kSize;
    if (at >= width) continue;
    values[i] = load_vec(x + row + at);
    if constexpr (kAdd) {
      const Vec<T> residual = load_vec(hidden + row + at);
#pragma unroll
      for (int j = 0; j < kSize; ++j)
        values[i].at[j] = from_float<T>(to_float(residual.at[j]) + to_float(values[i].at[j]));
      store_vec(hidden + row + at, values[i]);
    }
#pragma unroll
    for (int j = 0; j < kSize; ++j) sum += to_float(values[i].at[j]) * to_float(values[i].at[j]);
  }
  const float mean = block_sum(sum, partial) / static_cast<float>(width);
  const float scale = 1.0F / sqrtf(mean + eps);
#pragma unroll
  for (int i = 0; i < kVecs; ++i) {
    const int at = (i * kThreads + static_cast<int>(threadIdx.x)) * kSize;
    if (at >= width) continue;
    const Vec<T> weight = load_vec(w + at);
    Vec<T> result;
#pragma unroll
    for (int j = 0; j < kSize; ++j) {
      float normed = to_float(values[i].at[j]) * scale;
      if (round_before_weight) normed = round_to<T>(normed);
      result.at[j] = from_float<T>((weight_offset + to_float(weight.at[j])) * normed);
    }
    store_vec(out + row + at, result);
  }
}

template <class T, int kVecs, bool kAdd>
cudaError_t run(const RmsNormShape& shape, void* hidden, const void* x, const void* w, void* out,
                const Launch& launch) {
  return launch_kernel(rms_norm_kernel<T, kVecs, kAdd>, dim3(static_cast<unsigned>(shape.rows)),
                       dim3(kThreads), 0, launch, static_cast<T*>(hidden), static_cast<const T*>(x),
                       static_cast<const T*>(w), static_cast<T*>(out),
                       static_cast<int>(shape.width), shape.eps, shape.weight_offset,
                       shape.round_before_weight);
}

template <bool kAdd>
cudaError_t dispatch(const RmsNormShape& shape, void* hidden, const void* x, const void* w,
                     void* out, const Launch& launch) {
  if (shape.rows < 0 || shape.rows > 0x7fffffff || shape.width < 8 || shape.width % 8 != 0 ||
      shape.width > kMaxWidth)
    return cudaErrorInvalidValue;
  return with_type_of(shape.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const int vecs = (shape.width / Vec<T>::kSize + kThreads - 1) / kThreads;
    if (vecs <= 1) return run<T, 1, kAdd>(shape, hidden, x, w, out, launch);
    if (vecs <= 2) return run<T, 2, kAdd>(shape, hidden, x, w, out, launch);
    if (vecs <= 4) return run<T, 4, kAdd>(shape, hidden, x, w, out, launch);
    if (vecs <= 8) return run<T, 8, kAdd>(shape, hidden, x, w, out, launch);
    return run<T, 16, kAdd>(shape, hidden, x, w, out, launch);
  });
}

template <class T>
__global__ void add_into_kernel(T* hidden, const T* x, std::int64_t vecs) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const std::int64_t at = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
  if (at >= vecs) return;
  Vec<T> sum = load_vec(hidden + at * Vec<T>::kSize);
  const Vec<T> more = load_vec(x + at * Vec<T>::kSize);
#pragma unroll
  for (int j = 0; j < Vec<T>::kSize; ++j)
    sum.at[j] = from_float<T>(to_float(sum.at[j]) + to_float(more.at[j]));
  store_vec(hidden + at * Vec<T>::kSize, sum);
}

}  // namespace

cudaError_t rms_norm(const RmsNormShape& shape, const void* x, const void* w, void* out,
                     const Launch& launch) {
  return dispatch<false>(shape, nullptr, x, w, out, launch);
}

cudaError_t add_rms_norm(const RmsNormShape& shape, void* hidden, const void* x, const void* w,
                         void* out, const Launch& launch) {
  return dispatch<true>(shape, hidden, x, w, out, launch);
}

cudaError_t add_into(DType dtype, void* hidden, const void* x, std::int64_t count,
                     const Launch& launch) {
  if (count < 0 || count % 8 != 0) return cudaErrorInvalidValue;
  return with_type_of(dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const std::int64_t vecs = count / Vec<T>::kSize;
    return launch_kernel(add_into_kernel<T>, dim3(static_cast<unsigned>((vecs + 255) / 256)),
                         dim3(256), 0, launch, static_cast<T*>(hidden), static_cast<const T*>(x),
                         vecs);
  });
}

}  // namespace facet::kernels
