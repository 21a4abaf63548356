// paged_decode_attention in fp32, for tests of whole models: one block a lane and query head, three
// passes.
#pragma once

#include "kernels/attention/paged_decode_split.cuh"
#include "kernels/base/launch.cuh"

namespace facet::kernels::decode {

constexpr int kFp32Threads = 128;
constexpr int kFp32MaxDim = 256;

static __device__ const float* fp32_row(const Params& p, const void* pool, int lane, int head,
                                        int position) {
  const std::int64_t block =
      p.args.block_table[static_cast<std::int64_t>(lane) * p.shape.max_blocks +
                         position / kKvBlockTokens];
  return static_cast<const float*>(pool) + block * p.shape.layout.block_stride +
         position % kKvBlockTokens * p.shape.layout.token_stride +
         head / p.group * p.shape.layout.head_stride;
}

static __device__ float fp32_score(const Params& p, const float* q, int lane, int head,
                                   int position) {
  const float* key = fp32_row(p, p.args.keys, lane, head, position);
  float sum = 0.0F;
  for (int d = 0; d < p.shape.head_dim; ++d) sum += q[d] * key[d];
  return sum * p.shape.scale;
}

// max or sum over the block, of values that each thread brings.
template <class Op>
static __device__ float fp32_reduce(float x, float* shared, Op op) {
  shared[threadIdx.x] = x;
  __syncthreads();
  for (int step = kFp32Threads / 2; step > 0; step /= 2) {
    if (static_cast<int>(threadIdx.x) < step)
      shared[threadIdx.x] = op(shared[threadIdx.x], shared[threadIdx.x + step]);
    __syncthreads();
  }
  const float result = shared[0];
  __syncthreads();
  return result;
}

static __global__ void __launch_bounds__(kFp32Threads)
    decode_fp32_kernel(const __grid_constant__ Params p) {
  __shared__ float shared[kFp32Threads];
  __shared__ float weights[kFp32Threads];
  wait_for_previous_kernel();
  let_next_kernel_start();
  const int lane = static_cast<int>(blockIdx.x) / p.shape.heads;
  const int head = static_cast<int>(blockIdx.x) % p.shape.heads;
  const int me = static_cast<int>(threadIdx.x);
  const int dim = p.shape.head_dim;
  const int length = min(max(p.args.lengths[lane], 0), p.shape.max_blocks * kKvBlockTokens);
  const int window = p.shape.window;
  const int first = window > 0 && length > window ? length - window : 0;
  const float* q = static_cast<const float*>(p.args.q) + lane * p.args.q_stride + head * dim;
  float top = -INFINITY;
  for (int at = first + me; at < length; at += kFp32Threads)
    top = fmaxf(top, fp32_score(p, q, lane, head, at));
  top = fp32_reduce(top, shared, [](float a, float b) { return fmaxf(a, b); });
  float total = 0.0F;
  float sums[kFp32MaxDim / kFp32Threads] = {};
  for (int base = first; base < length; base += kFp32Threads) {
    const int at = base + me;
    weights[me] = at < length ? expf(fp32_score(p, q, lane, head, at) - top) : 0.0F;
    total += weights[me];
    __syncthreads();
    for (int i = 0; i < kFp32Threads && base + i < length; ++i) {
      const float* value = fp32_row(p, p.args.values, lane, head, base + i);
      for (int part = 0; part < kFp32MaxDim / kFp32Threads; ++part)
        if (part * kFp32Threads + me < dim)
          sums[part] += weights[i] * value[part * kFp32Threads + me];
    }
    __syncthreads();
  }
  total = fp32_reduce(total, shared, [](float a, float b) { return a + b; });
  float* out = static_cast<float*>(p.args.out) +
               (static_cast<std::int64_t>(lane) * p.shape.heads + head) * dim;
  for (int part = 0; part < kFp32MaxDim / kFp32Threads; ++part)
    if (part * kFp32Threads + me < dim)
      out[part * kFp32Threads + me] = length > 0 ? sums[part] / total : 0.0F;
}

inline cudaError_t run_fp32(const Params& p, const Launch& launch) {
  if (p.shape.head_dim < 1 || p.shape.head_dim > kFp32MaxDim) return cudaErrorInvalidValue;
  return launch_kernel(decode_fp32_kernel,
                       dim3(static_cast<unsigned>(p.shape.lanes * p.shape.heads)),
                       dim3(kFp32Threads), 0, launch, p);
}

}  // namespace facet::kernels::decode
