#include <cmath>
#include <type_traits>

#include "kernels/base/device.cuh"
#include "kernels/base/launch.cuh"
#include "kernels/rope/rope_kv_write.h"

namespace facet::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kMaxHalf = 128;

// One block's row, and where its keys and values go.
template <class T>
struct RowTargets {
  T* keys = nullptr;  // of KV head 0; null: nothing is written
  T* values = nullptr;
};

template <class T>
__device__ RowTargets<T> targets_of(const RopeShape& shape, const RopeArgs& args,
                                    std::int64_t row) {
  if (args.keys == nullptr) return {};
  const std::int64_t lane = args.row_lane != nullptr ? args.row_lane[row] : row;
  if (lane < 0) return {};
  const int index = args.row_index[row];
  if (index < 0 || index / kKvBlockTokens >= shape.max_blocks) return {};
  const std::int64_t block = args.block_table[lane * shape.max_blocks + index / kKvBlockTokens];
  const std::int64_t at =
      block * shape.layout.block_stride + index % kKvBlockTokens * shape.layout.token_stride;
  return {static_cast<T*>(args.keys) + at, static_cast<T*>(args.values) + at};
}

template <class T>
__device__ Vec<T> load_biased(const T* x, const T* bias) {
  Vec<T> v = load_vec(x);
  if (bias == nullptr) return v;
  const Vec<T> b = load_vec(bias);
#pragma unroll
  for (int j = 0; j < Vec<T>::kSize; ++j)
    v.at[j] = from_float<T>(to_float(v.at[j]) + to_float(b.at[j]));
  return v;
}

// fp16 overflows where the other types do not. An infinite key would be one that half of the
// queries do not see at all; as not a number it reaches the logits, where it is noticed.
template <class T>
__device__ __forceinline__ T turned_value(float x) {
  const T value = from_float<T>(x);
  if constexpr (std::is_same_v<T, Fp16>) {
    if (isinf(to_float(value))) return from_float<T>(NAN);
  }
  return value;
}

template <class T>
__device__ void turn(Vec<T>& low, Vec<T>& high, const float* cosines, const float* sines) {
#pragma unroll
  for (int j = 0; j < Vec<T>::kSize; ++j) {
    const float a = to_float(low.at[j]);
    const float b = to_float(high.at[j]);
    const float c = cosines[j];
    const float s = sines[j];
    // Each product is rounded by itself, and never fused with the sum.
    low.at[j] =
        turned_value<T>(__fsub_rn(round_to<T>(__fmul_rn(a, c)), round_to<T>(__fmul_rn(b, s))));
    high.at[j] =
        turned_value<T>(__fadd_rn(round_to<T>(__fmul_rn(b, c)), round_to<T>(__fmul_rn(a, s))));
  }
}

template <class T>
__device__ void fill_angles(const RopeShape& shape, const RopeArgs& args, std::int64_t row,
                            float* cosines, float* sines) {
  const int half = shape.head_dim / 2;
  for (int i = static_cast<int>(threadIdx.x); i < half; i += kThreads) {
    int axis = 0;
    if (i >= shape.sections[0]) axis = i >= shape.sections[0] + shape.sections[1] ? 2 : 1;
    const float angle =
        __fmul_rn(args.frequencies[i], static_cast<float>(args.positions[row * 3 + axis]));
    cosines[i] = round_to<T>(cosf(angle));
    sines[i] = round_to<T>(sinf(angle));
  }
  __syncthreads();
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    rope_kv_write_kernel(const RopeShape shape, const RopeArgs args) {
  __shared__ float cosines[kMaxHalf];
  __shared__ float sines[kMaxHalf];
  constexpr int kSize = Vec<T>::kSize;
  wait_for_previous_kernel();
  let_next_kernel_start();
  const std::int64_t row = blockIdx.x;
  const int dim = shape.head_dim;
  const int half = dim / 2;
  fill_angles<T>(shape, args, row, cosines, sines);
  const RowTargets<T> to = targets_of<T>(shape, args, row);
  T* qkv = static_cast<T*>(args.qkv) + row * args.qkv_stride;
  const T* bias = static_cast<const T*>(args.bias);

  const int turned = shape.heads + shape.kv_heads;
  const int vecs = half / kSize;
  for (int i = static_cast<int>(threadIdx.x); i < turned * vecs; i += kThreads) {
    const int head = i / vecs;
    const int at = i % vecs * kSize;
    T* low_at = qkv + head * dim + at;
    const T* bias_at = bias != nullptr ? bias + head * dim + at : nullptr;
    Vec<T> low = load_biased(low_at, bias_at);
    Vec<T> high = load_biased(low_at + half, bias_at != nullptr ? bias_at + half : nullptr);
    turn(low, high, cosines + at, sines + at);
    store_vec(low_at, low);
    store_vec(low_at + half, high);
    if (head < shape.heads || to.keys == nullptr) continue;
    T* key = to.keys + (head - shape.heads) * shape.layout.head_stride + at;
    store_vec(key, low);
    store_vec(key + half, high);
  }

  const int value_vecs = dim / kSize;
  for (int i = static_cast<int>(threadIdx.x); i < shape.kv_heads * value_vecs; i += kThreads) {
    const int head = i / value_vecs;
    const int at = i % value_vecs * kSize;
    const int column = (turned + head) * dim + at;
    const Vec<T> value = load_biased(qkv + column, bias != nullptr ? bias + column : nullptr);
    if (bias != nullptr) store_vec(qkv + column, value);
    if (to.values != nullptr) store_vec(to.values + head * shape.layout.head_stride + at, value);
  }
}

// A block a row; pair by pair, since a vision head need not be a multiple of 16.
template <class T>
__global__ void rope_vision_kernel(T* qkv, std::int64_t stride, const float* cosines,
                                   const float* sines, int heads, int dim) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const std::int64_t row = blockIdx.x;
  const int half = dim / 2;
  T* x = qkv + row * stride;
  for (int i = static_cast<int>(threadIdx.x); i < 2 * heads * half; i += kThreads) {
    const int at = i % half;
    T* low = x + i / half * dim + at;
    const float a = to_float(low[0]);
    const float b = to_float(low[half]);
    const float c = cosines[row * half + at];
    const float s = sines[row * half + at];
    low[0] = turned_value<T>(__fsub_rn(__fmul_rn(a, c), __fmul_rn(b, s)));
    low[half] = turned_value<T>(__fadd_rn(__fmul_rn(b, c), __fmul_rn(a, s)));
  }
}

bool is_valid(const RopeShape& shape, const RopeArgs& args) {
  const int half = shape.head_dim / 2;
  return shape.rows >= 0 && shape.rows <= 0x7fffffff && shape.heads >= 1 && shape.kv_heads >= 0 &&
         shape.head_dim >= 16 && shape.head_dim % 16 == 0 && half <= kMaxHalf &&
         shape.sections[0] + shape.sections[1] + shape.sections[2] == half &&
         args.qkv_stride % 8 == 0 &&
         (args.keys == nullptr || (args.values != nullptr && args.block_table != nullptr &&
                                   args.row_index != nullptr && shape.max_blocks > 0));
}

}  // namespace

cudaError_t rope_kv_write(const RopeShape& shape, const RopeArgs& args, const Launch& launch) {
  if (!is_valid(shape, args)) return cudaErrorInvalidValue;
  return with_type_of(shape.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    return launch_kernel(rope_kv_write_kernel<T>, dim3(static_cast<unsigned>(shape.rows)),
                         dim3(kThreads), 0, launch, shape, args);
  });
}

cudaError_t rope_vision(DType dtype, void* qkv, std::int64_t qkv_stride, const float* cos,
                        const float* sin, std::int64_t rows, std::int32_t heads,
                        std::int32_t head_dim, const Launch& launch) {
  if (rows < 0 || rows > 0x7fffffff || heads < 1 || head_dim < 2 || head_dim % 2 != 0)
    return cudaErrorInvalidValue;
  return with_type_of(dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    return launch_kernel(rope_vision_kernel<T>, dim3(static_cast<unsigned>(rows)), dim3(kThreads),
                         0, launch, static_cast<T*>(qkv), qkv_stride, cos, sin,
                         static_cast<int>(heads), static_cast<int>(head_dim));
  });
}

}  // namespace facet::kernels
