// skinny_linear in fp32, for tests of whole models: one warp an output row, no pipeline.
#pragma once

#include "kernels/base/device.cuh"
#include "kernels/base/launch.cuh"
#include "kernels/linear/skinny_linear_block.cuh"

namespace facet::kernels::skinny {

static __device__ float fp32_scale(const Params& p, const float* x) {
  if (p.norm == nullptr) return 1.0F;
  float sum = 0.0F;
  for (int i = static_cast<int>(threadIdx.x) % 32; i < p.k; i += 32) sum += x[i] * x[i];
  return 1.0F / sqrtf(warp_sum(sum) / static_cast<float>(p.k) + p.eps);
}

static __device__ float fp32_dot(const Params& p, const float* x, float scale, int row) {
  const float* w = static_cast<const float*>(p.weight) + static_cast<std::int64_t>(row) * p.k;
  const auto* norm = static_cast<const float*>(p.norm);
  float sum = 0.0F;
  for (int i = static_cast<int>(threadIdx.x) % 32; i < p.k; i += 32)
    sum += w[i] * (norm != nullptr ? norm[i] * (x[i] * scale) : x[i]);
  sum = warp_sum(sum);
  return p.bias != nullptr ? sum + static_cast<const float*>(p.bias)[row] : sum;
}

static __global__ void __launch_bounds__(kThreads) skinny_fp32_kernel(const Params p) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const bool paired = p.epilogue == SkinnyEpilogue::kSiluMul;
  const int units = paired ? p.n / 2 : p.n;
  const int row = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / 32;
  if (row >= units) return;
  for (int m = 0; m < p.m; ++m) {
    const float* x = static_cast<const float*>(p.x) + m * p.x_stride;
    const float scale = fp32_scale(p, x);
    float sum = fp32_dot(p, x, scale, row);
    if (paired) sum = silu(sum) * fp32_dot(p, x, scale, units + row);
    if (threadIdx.x % 32 != 0) continue;
    float* out = static_cast<float*>(p.out) + m * p.out_stride + row;
    *out = p.epilogue == SkinnyEpilogue::kAddInto ? *out + sum : sum;
  }
}

inline cudaError_t run_fp32(const Params& p, const Launch& launch) {
  const int units = p.epilogue == SkinnyEpilogue::kSiluMul ? p.n / 2 : p.n;
  return launch_kernel(skinny_fp32_kernel,
                       dim3(static_cast<unsigned>((units + kWarps - 1) / kWarps)), dim3(kThreads),
                       0, launch, p);
}

}  // namespace facet::kernels::skinny
