#include "kernels/base/device.cuh"
#include "kernels/base/launch.cuh"
#include "kernels/linear/gemv.h"

namespace facet::kernels {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kBlocksPerSm = 2;  // so that one comes in while the other, or another kernel, ends
constexpr int kRows = 2;         // of W that a warp adds up at once
constexpr int kVecs = 8;         // of 16 bytes of each that a thread has in flight
constexpr int kNormVecs = kGemvMaxNormWidth / 8 / kThreads;
// More of x is read where it lies, by way of the L1 cache: 48 KB need no permission, and two blocks
// fit an SM.
constexpr int kMaxSharedX = 48 * 1024 - 512;

struct Params {
  GemvShape shape;
  GemvArgs args;
};

// Weights are read once: they pass by the L1 cache. Volatile: not to be moved behind the wait.
__device__ __forceinline__ uint4 load_weights(const uint4* from) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.L2::256B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from));
  return v;
}

// Two values of T that lie in one word, the first in its lower half.
template <class T>
__device__ __forceinline__ float2 widen(std::uint32_t pair);
template <>
__device__ __forceinline__ float2 widen<Bf16>(std::uint32_t pair) {
  return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000U)};
}
template <>
__device__ __forceinline__ float2 widen<Fp16>(std::uint32_t pair) {
  return __half22float2(reinterpret_cast<const __half2&>(pair));
}

template <class T>
__device__ __forceinline__ float dot(const uint4& a, const float (&b)[8], float sum) {
  const std::uint32_t pairs[4] = {a.x, a.y, a.z, a.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 two = widen<T>(pairs[i]);
    sum = fmaf(two.x, b[2 * i], sum);
    sum = fmaf(two.y, b[2 * i + 1], sum);
  }
  return sum;
}

template <class T>
__device__ __forceinline__ void widen(const uint4& v, float (&out)[8]) {
  const std::uint32_t pairs[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 two = widen<T>(pairs[i]);
    out[2 * i] = two.x;
    out[2 * i + 1] = two.y;
  }
}

// The rows of x through the norm, rounded as rms_norm() rounds them.
template <class T, int kM>
__device__ void norm_x(const Params& p, uint4* shared_x, float* partial) {
  const int vecs = p.shape.k / 8;
  for (int row = 0; row < kM; ++row) {
    const auto* from =
        reinterpret_cast<const uint4*>(static_cast<const T*>(p.args.x) + row * p.args.x_stride);
    uint4 values[kNormVecs];
    float sum = 0.0F;
#pragma unroll
    for (int i = 0; i < kNormVecs; ++i) {
      const int at = i * kThreads + static_cast<int>(threadIdx.x);
      values[i] = at < vecs ? from[at] : make_uint4(0, 0, 0, 0);
      float wide[8];
      widen<T>(values[i], wide);
#pragma unroll
      for (const float x : wide) sum += x * x;
    }
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
    __syncthreads();
    sum = 0.0F;
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) sum += partial[warp];
    const float scale = 1.0F / sqrtf(sum / static_cast<float>(p.shape.k) + p.shape.eps);
#pragma unroll
    for (int i = 0; i < kNormVecs; ++i) {
      const int at = i * kThreads + static_cast<int>(threadIdx.x);
      if (at >= vecs) continue;
      const Vec<T> weight = load_vec(static_cast<const T*>(p.args.norm) + at * 8);
      float wide[8];
      widen<T>(values[i], wide);
      Vec<T> normed;
#pragma unroll
      for (int j = 0; j < 8; ++j)
        normed.at[j] = from_float<T>(to_float(weight.at[j]) * round_to<T>(wide[j] * scale));
      shared_x[row * vecs + at] = reinterpret_cast<const uint4&>(normed);
    }
    __syncthreads();  // before the next row's partial sums
  }
}

template <class T, int kM>
__device__ void copy_x(const Params& p, uint4* shared_x) {
  const int vecs = p.shape.k / 8;
#pragma unroll
  for (int row = 0; row < kM; ++row) {
    const auto* from =
        reinterpret_cast<const uint4*>(static_cast<const T*>(p.args.x) + row * p.args.x_stride);
    for (int at = static_cast<int>(threadIdx.x); at < vecs; at += kThreads)
      shared_x[row * vecs + at] = from[at];
  }
  __syncthreads();
}

// Outputs of a block: a run of them, two at a time to its warps in turn. With silu two rows of W
// make one output.
struct Units {
  bool paired;
  int first, count;

  __device__ explicit Units(const GemvShape& shape) {
    paired = shape.epilogue == GemvEpilogue::kSiluMul;
    const std::int64_t all = paired ? shape.n / 2 : shape.n;
    first = static_cast<int>(all * blockIdx.x / gridDim.x);
    count = static_cast<int>(all * (blockIdx.x + 1) / gridDim.x) - first;
  }
  __device__ int per_turn() const { return paired ? 1 : kRows; }
  // Row of W of a turn; a row that is not there is another one, whose sum is not read.
  __device__ std::int64_t row(const GemvShape& shape, int unit, int which) const {
    if (paired) return first + unit + (which != 0 ? shape.n / 2 : 0);
    return first + min(unit + which, count - 1);
  }
};

// What a warp has of two rows of W: some vectors of each.
using Loaded = uint4[kRows][kVecs];
template <int kM>
using Sums = float[kM][kRows];

template <class T>
struct Rows {
  const uint4* w[kRows];
  int vecs, lane;

  __device__ Rows(const Params& p, const Units& units, int unit)
      : vecs(p.shape.k / 8), lane(static_cast<int>(threadIdx.x) % 32) {
#pragma unroll
    for (int r = 0; r < kRows; ++r)
      w[r] = reinterpret_cast<const uint4*>(static_cast<const T*>(p.args.weight) +
                                            units.row(p.shape, unit, r) * p.shape.k);
  }
  __device__ __forceinline__ void load(int base, Loaded& to) const {
#pragma unroll
    for (int i = 0; i < kVecs; ++i) {
      const int at = base + i * 32 + lane;
#pragma unroll
      for (int r = 0; r < kRows; ++r)
        to[r][i] = at < vecs ? load_weights(w[r] + at) : make_uint4(0, 0, 0, 0);
    }
  }
};

// x [kM, stride] in vectors.
template <class T, int kM>
__device__ __forceinline__ void add(const Loaded& w, const uint4* x, std::int64_t stride, int base,
                                    const Rows<T>& rows, Sums<kM>& sums) {
#pragma unroll
  for (int i = 0; i < kVecs; ++i) {
    const int at = base + i * 32 + rows.lane;
    const int place = at < rows.vecs ? at : 0;  // its weights are zeros
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      float wide[8];
      widen<T>(x[m * stride + place], wide);
#pragma unroll
      for (int r = 0; r < kRows; ++r) sums[m][r] = dot<T>(w[r][i], wide, sums[m][r]);
    }
  }
}

// A lane an output: of x's row lane / kRows and the warp's row lane % kRows of W.
template <class T, int kM>
__device__ __forceinline__ void write(const Params& p, const Units& units, int unit,
                                      const Sums<kM>& sums) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float sum = 0.0F;
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float whole = warp_sum(sums[m][r]);
      sum += lane == m * kRows + r ? whole : 0.0F;
    }
  const int m = lane / kRows;
  const int r = lane % kRows;
  const std::int64_t row = units.row(p.shape, unit, r);
  if (p.args.bias != nullptr) sum += to_float(static_cast<const T*>(p.args.bias)[row]);
  float result = round_to<T>(sum);
  const float up = __shfl_down_sync(0xffffffffU, result, 1);
  if (m >= kM || (units.paired ? r != 0 : unit + r >= units.count)) return;
  if (units.paired) result = round_to<T>(silu(result)) * up;
  T* const to = static_cast<T*>(p.args.out) + m * p.args.out_stride + row;
  if (p.shape.epilogue == GemvEpilogue::kAddInto) result += to_float(*to);
  *to = from_float<T>(result);
}

template <class T, int kM, bool kSharedX>
__global__ void __launch_bounds__(kThreads, kBlocksPerSm)
    gemv_kernel(const __grid_constant__ Params p) {
  extern __shared__ __align__(16) uint4 shared_x[];
  __shared__ float partial[kWarps];
  let_next_kernel_start();
  const Units units(p.shape);
  int unit = static_cast<int>(threadIdx.x) / 32 * units.per_turn();
  Loaded loaded;
  if (unit < units.count) Rows<T>(p, units, unit).load(0, loaded);
  wait_for_previous_kernel();
  if constexpr (kSharedX) {
    if (p.args.norm != nullptr)
      norm_x<T, kM>(p, shared_x, partial);
    else
      copy_x<T, kM>(p, shared_x);
  }
  const uint4* const x = kSharedX ? shared_x : static_cast<const uint4*>(p.args.x);
  const std::int64_t stride = (kSharedX ? p.shape.k : p.args.x_stride) / 8;
  while (unit < units.count) {
    const Rows<T> rows(p, units, unit);
    Sums<kM> sums = {};
    add<T, kM>(loaded, x, stride, 0, rows, sums);
    for (int base = kVecs * 32; base < rows.vecs; base += kVecs * 32) {
      rows.load(base, loaded);
      add<T, kM>(loaded, x, stride, base, rows, sums);
    }
    const int done = unit;
    unit += kWarps * units.per_turn();
    if (unit < units.count) Rows<T>(p, units, unit).load(0, loaded);  // meanwhile
    write<T, kM>(p, units, done, sums);
  }
}

template <class T, int kM>
cudaError_t run(const Params& p, const Launch& launch) {
  const GemvShape& shape = p.shape;
  const std::size_t x_bytes = static_cast<std::size_t>(kM) * static_cast<std::size_t>(shape.k) * 2;
  const bool shared = x_bytes <= kMaxSharedX;
  const int units = shape.epilogue == GemvEpilogue::kSiluMul ? shape.n / 2 : shape.n;
  const int most = kBlocksPerSm * device_facts().num_sms;
  const dim3 grid(static_cast<unsigned>(units < most ? units : most));
  if (shared)
    return launch_kernel(gemv_kernel<T, kM, true>, grid, dim3(kThreads), x_bytes, launch, p);
  return launch_kernel(gemv_kernel<T, kM, false>, grid, dim3(kThreads), 0, launch, p);
}

template <class T>
cudaError_t run_rows(const Params& p, const Launch& launch) {
  switch (p.shape.m) {
    case 1:
      return run<T, 1>(p, launch);
    case 2:
      return run<T, 2>(p, launch);
    case 3:
      return run<T, 3>(p, launch);
    default:
      return run<T, 4>(p, launch);
  }
}

}  // namespace

bool gemv_fits(const GemvShape& shape, bool with_norm) {
  const bool paired = shape.epilogue == GemvEpilogue::kSiluMul;
  return shape.dtype != DType::kFp32 && shape.m >= 1 && shape.m <= kGemvMaxRows && shape.n >= 1 &&
         shape.k >= 8 && shape.k % 8 == 0 && (!paired || shape.n % 2 == 0) &&
         (!with_norm || (shape.k <= kGemvMaxNormWidth && shape.m * shape.k * 2 <= kMaxSharedX));
}

cudaError_t gemv(const GemvShape& shape, const GemvArgs& args, const Launch& launch) {
  if (!gemv_fits(shape, args.norm != nullptr) || args.x_stride % 8 != 0)
    return cudaErrorInvalidValue;
  const Params p{shape, args};
  return shape.dtype == DType::kFp16 ? run_rows<Fp16>(p, launch) : run_rows<Bf16>(p, launch);
}

}  // namespace facet::kernels
