#include "kernels/attention/segment_attention.h"
#include "kernels/base/device.cuh"
#include "kernels/base/launch.cuh"

namespace facet::kernels {
namespace {

constexpr int kMaxPerThread = 8;  // head_dim / 32
constexpr int kWarps = 4;

template <class T>
__global__ void segment_kernel(SegmentAttentionShape shape, SegmentAttentionArgs args) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const int segment = static_cast<int>(blockIdx.z);
  const int head = static_cast<int>(blockIdx.y);
  const int place = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.y);
  const int first = args.query_begin[segment];
  const int queries = args.query_begin[segment + 1] - first;
  if (place >= queries) return;
  const int lane = static_cast<int>(threadIdx.x);
  const int dim = shape.head_dim;
  const int key_first = args.key_begin[segment];
  const int keys = args.key_begin[segment + 1] - key_first;
  const int seen = shape.causal ? keys - queries + place + 1 : keys;
  const int kv_head = head / (shape.heads / shape.kv_heads);
  const T* q = static_cast<const T*>(args.q) + (first + place) * args.q_stride + head * dim;
  float query[kMaxPerThread], sum[kMaxPerThread];
#pragma unroll
  for (int i = 0; i < kMaxPerThread; ++i) {
    const int d = lane + 32 * i;
    query[i] = d < dim ? to_float(q[d]) * shape.scale : 0.0F;
    sum[i] = 0.0F;
  }
  float top = -INFINITY;
  float total = 0.0F;
  for (int key = 0; key < seen; ++key) {
    const std::int64_t row = key_first + key;
    const T* k = static_cast<const T*>(args.k) + row * args.k_stride + kv_head * dim;
    const T* v = static_cast<const T*>(args.v) + row * args.v_stride + kv_head * dim;
    float part = 0.0F;
#pragma unroll
    for (int i = 0; i < kMaxPerThread; ++i)
      if (const int d = lane + 32 * i; d < dim) part += query[i] * to_float(k[d]);
    const float score = warp_sum(part);
    const float higher = fmaxf(top, score);
    const float shrink = expf(top - higher);
    const float weight = expf(score - higher);
    top = higher;
    total = total * shrink + weight;
#pragma unroll
    for (int i = 0; i < kMaxPerThread; ++i)
      if (const int d = lane + 32 * i; d < dim) sum[i] = sum[i] * shrink + weight * to_float(v[d]);
  }
  T* out = static_cast<T*>(args.out) + (first + place) * args.out_stride + head * dim;
#pragma unroll
  for (int i = 0; i < kMaxPerThread; ++i)
    if (const int d = lane + 32 * i; d < dim) out[d] = from_float<T>(sum[i] / total);
}

}  // namespace

cudaError_t segment_attention(const SegmentAttentionShape& shape, const SegmentAttentionArgs& args,
                              const Launch& launch) {
  if (shape.segments < 0 || shape.segments > 65535 || shape.max_query_rows < 0 ||
      shape.kv_heads < 1 || shape.heads % shape.kv_heads != 0 || shape.head_dim < 1 ||
      shape.head_dim > 32 * kMaxPerThread)
    return cudaErrorInvalidValue;
  const dim3 grid(static_cast<unsigned>((shape.max_query_rows + kWarps - 1) / kWarps),
                  static_cast<unsigned>(shape.heads), static_cast<unsigned>(shape.segments));
  return with_type_of(shape.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    return launch_kernel(segment_kernel<T>, grid, dim3(32, kWarps), 0, launch, shape, args);
  });
}

}  // namespace facet::kernels
