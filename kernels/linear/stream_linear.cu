#include "kernels/base/launch.cuh"
#include "kernels/base/tensor_map.h"
#include "kernels/linear/linear_pipe.cuh"
#include "kernels/linear/stream_linear.h"

namespace facet::kernels {
namespace {

using namespace hopper;  // NOLINT: all of this file

constexpr int kCluster = 2;  // blocks that share x

struct Params {
  CUtensorMap weight, x;
  const void* bias;
  void* out;
  float* sums;
  int* counters;
  std::int32_t m, n, steps;  // steps of K in an output
  std::int32_t tiles;        // outputs of a cluster: kCluster * kRows rows of W each
  bool gated;
};

// The run of a cluster: steps of K of output after output, all clusters' as long as possible.
struct Run {
  std::int64_t all;
  int runs;

  __device__ explicit Run(const Params& p)
      : all(std::int64_t{p.tiles} * p.steps), runs(static_cast<int>(gridDim.x) / kCluster) {}
  __device__ int begin(int run) const { return static_cast<int>(all * run / runs); }
  __device__ int of(int step) const {
    return static_cast<int>(((step + std::int64_t{1}) * runs - 1) / all);
  }
};

// What is left to do of a run: `count` steps of output `tile` from `first` on.
struct Segment {
  int tile, first, count;
  __device__ Segment(const Params& p, int at, int end)
      : tile(at / p.steps), first(at - tile * p.steps), count(min(p.steps - first, end - at)) {}
};

template <class T, int kTokens>
struct Kernel {
  using Lines = Pipe<T, kTokens, kCluster, 0>;
  static constexpr int kSums = kTokens / 2;                   // of a thread
  static constexpr int kAtOnce = kSums > 8 ? 64 / kSums : 4;  // blocks' sums on their way to it

  static __device__ int first_row(const Lines& pipe, int tile) {
    return (tile * kCluster + pipe.rank()) * kRows;
  }

  // By one thread. The weights of the first stages do not wait for the kernel before.
  static __device__ void produce(const Params& p, const Lines& pipe, int begin, int end) {
    const std::uint64_t once = evict_first();
    const std::uint64_t often = evict_last();
    const int early = min(end - begin, Lines::kStages);
    int stage = 0;
    std::uint32_t phase = 0;
    for (int at = begin; at < end; ++at) {
      const Segment here(p, at, end);
      pipe.open(stage, phase);
      pipe.fill_weights(stage, p.weight, p.gated, once, here.first * kDepth,
                        first_row(pipe, here.tile));
      Lines::next(stage, phase);
      if (at - begin < early - 1) continue;
      if (at - begin > early - 1) {
        const int last = stage == 0 ? Lines::kStages - 1 : stage - 1;
        pipe.fill_x(last, p.x, often, here.first * kDepth, 0);
        continue;
      }
      wait_for_previous_kernel();
      for (int i = 0; i < early; ++i)
        pipe.fill_x(i, p.x, often, Segment(p, begin + i, end).first * kDepth, 0);
    }
  }

  // This block's sums of an unfinished output go to the others; whoever comes last has them all
  // added up, in the order of K. Returns whether that is this block.
  static __device__ bool complete(const Params& p, const Lines& pipe, const Run& run, int self,
                                  const Segment& segment, float (&sums)[kSums], int& shared_last) {
    const int begin = segment.tile * p.steps;
    const int first = run.of(begin);
    const int last = run.of(begin + p.steps - 1);
    const auto place = [&](int of) {
      const int slot = run.begin(of) >= begin ? 0 : 1;  // of a run only its first or its last
      const std::int64_t block = std::int64_t{of} * kCluster + pipe.rank();
      return reinterpret_cast<float4*>(p.sums) + (block * 2 + slot) * (kSums / 4) * kConsumers +
             threadIdx.x;
    };
    float4* const mine = place(self);
#pragma unroll
    for (int i = 0; i < kSums / 4; ++i)
      __stcg(mine + i * kConsumers,
             make_float4(sums[4 * i], sums[4 * i + 1], sums[4 * i + 2], sums[4 * i + 3]));
    __threadfence();
    sync_threads(1, kConsumers);
    if (threadIdx.x == 0) {
      int* const counter = p.counters + segment.tile * kCluster + pipe.rank();
      const bool is_last = atomicAdd(counter, 1) == last - first;
      if (is_last) *counter = 0;
      shared_last = is_last ? 1 : 0;
      __threadfence();
    }
    sync_threads(1, kConsumers);
    if (shared_last == 0) return false;
#pragma unroll
    for (int i = 0; i < kSums; ++i) sums[i] = 0.0F;
    for (int of = first; of <= last; of += kAtOnce) {
      float4 parts[kAtOnce][kSums / 4];
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j)
#pragma unroll
        for (int i = 0; i < kSums / 4; ++i)
          parts[j][i] = of + j <= last ? __ldcg(place(of + j) + i * kConsumers) : float4{};
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j)
#pragma unroll
        for (int i = 0; i < kSums / 4; ++i) {
          sums[4 * i] += parts[j][i].x, sums[4 * i + 1] += parts[j][i].y;
          sums[4 * i + 2] += parts[j][i].z, sums[4 * i + 3] += parts[j][i].w;
        }
    }
    return true;
  }

  // d[4 j + 2 r + c]: row lane / 4 + 8 r of the warp's 16, token 8 j + 2 * (lane % 4) + c.
  static __device__ void write(const Params& p, int row0, const float (&sums)[kSums]) {
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    T* const out = static_cast<T*>(p.out);
    const auto* const bias = static_cast<const T*>(p.bias);
    const auto tokens = [&](auto put) {
#pragma unroll
      for (int j = 0; j < kTokens / 8; ++j)
#pragma unroll
        for (int c = 0; c < 2; ++c)
          if (const int token = 8 * j + 2 * (lane % 4) + c; token < p.m) put(4 * j + c, token);
    };
    if (p.gated) {
      const int row = row0 / 2 + 8 * warp + lane / 4;
      if (row >= p.n / 2) return;
      const float gate_bias = bias != nullptr ? to_float(bias[row]) : 0.0F;
      const float up_bias = bias != nullptr ? to_float(bias[p.n / 2 + row]) : 0.0F;
      tokens([&](int i, int token) {
        const float gate = round_to<T>(sums[i] + gate_bias);
        const float up = round_to<T>(sums[i + 2] + up_bias);
        out[std::int64_t{token} * (p.n / 2) + row] = from_float<T>(round_to<T>(silu(gate)) * up);
      });
      return;
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = row0 + 16 * warp + lane / 4 + 8 * r;
      if (row >= p.n) continue;
      const float added = bias != nullptr ? to_float(bias[row]) : 0.0F;
      tokens([&](int i, int token) {
        out[std::int64_t{token} * p.n + row] = from_float<T>(sums[i + 2 * r] + added);
      });
    }
  }

  static __device__ void consume(const Params& p, Lines& pipe, const Run& run, int self,
                                 int& shared_last) {
    wait_for_previous_kernel();
    const int end = run.begin(self + 1);
    for (int at = run.begin(self); at < end;) {
      const Segment segment(p, at, end);
      float sums[kSums];
      pipe.run(sums, segment.count);
      at += segment.count;
      if (segment.count == p.steps || complete(p, pipe, run, self, segment, sums, shared_last))
        write(p, first_row(pipe, segment.tile), sums);
    }
  }
};

template <class T, int kTokens>
__global__ void __launch_bounds__(kThreads, 1)
    stream_linear_kernel(const __grid_constant__ Params p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using K = Kernel<T, kTokens>;
  extern __shared__ std::uint8_t dynamic[];
  __shared__ typename K::Lines::Barriers barriers;
  __shared__ int shared_last;
  let_next_kernel_start();
  typename K::Lines pipe(barriers, aligned_shared(dynamic));
  const Run run(p);
  const int self = static_cast<int>(blockIdx.x) / kCluster;
  if (threadIdx.x < kConsumers)
    K::consume(p, pipe, run, self, shared_last);
  else if (threadIdx.x == kConsumers)
    K::produce(p, pipe, run.begin(self), run.begin(self + 1));
  // A block of the cluster may still be written to, and its barriers arrived at.
  __syncwarp();
  sync_cluster();
#endif
}

template <class T, int kTokens>
cudaError_t run(const StreamLinearShape& shape, const StreamLinearArgs& args,
                const Launch& launch) {
  const bool gated = shape.epilogue == LinearEpilogue::kSiluMul;
  Params p{};
  p.bias = args.bias;
  p.out = args.out;
  p.sums = static_cast<float*>(args.sums);
  p.counters = static_cast<int*>(args.counters);
  p.m = shape.m;
  p.n = shape.n;
  p.gated = gated;
  p.steps = (shape.k + kDepth - 1) / kDepth;
  p.tiles = (shape.n + kCluster * kRows - 1) / (kCluster * kRows);
  if (const cudaError_t error =
          make_weight_map(shape.dtype, args.weight, shape.n, shape.k, gated, p.weight);
      error != cudaSuccess)
    return error;
  if (const cudaError_t error =
          make_row_map(shape.dtype, args.x, shape.m, shape.k, kTokens / kCluster, p.x);
      error != cudaSuccess)
    return error;
  const std::int64_t steps = std::int64_t{p.tiles} * p.steps;
  const std::int64_t most = device_facts().num_sms / kCluster;
  const auto clusters = static_cast<unsigned>(steps < most ? steps : most);
  return launch_clusters(stream_linear_kernel<T, kTokens>, dim3(clusters * kCluster),
                         dim3(kThreads), Kernel<T, kTokens>::Lines::Shape::kDynamicBytes, kCluster,
                         launch, p);
}

template <class T>
cudaError_t run_of(const StreamLinearShape& shape, const StreamLinearArgs& args,
                   const Launch& launch) {
  if (shape.m <= 16) return run<T, 16>(shape, args, launch);
  if (shape.m <= 32) return run<T, 32>(shape, args, launch);
  return run<T, 64>(shape, args, launch);
}

}  // namespace

bool stream_linear_fits(const StreamLinearShape& shape) {
  const bool gated = shape.epilogue == LinearEpilogue::kSiluMul;
  const DeviceFacts& facts = device_facts();
  const std::size_t counters = (static_cast<std::size_t>(shape.n) / kRows + 2) * sizeof(int);
  return facts.capability == 90 && facts.shared_bytes >= kSharedBytes && facts.num_sms <= 160 &&
         size_of(shape.dtype) == 2 && shape.m >= 1 && shape.m <= kStreamLinearMaxRows &&
         shape.n >= 1 && shape.k >= 8 && shape.k % 8 == 0 && (!gated || shape.n % 16 == 0) &&
         counters <= kStreamLinearCounterBytes;
}

bool stream_linear_pays(const StreamLinearShape& shape) {
  return stream_linear_fits(shape) && shape.n / kRows > device_facts().num_sms;
}

cudaError_t stream_linear(const StreamLinearShape& shape, const StreamLinearArgs& args,
                          const Launch& launch) {
  if (!stream_linear_fits(shape)) return cudaErrorInvalidValue;
  if (shape.dtype == DType::kFp16) return run_of<Fp16>(shape, args, launch);
  return run_of<Bf16>(shape, args, launch);
}

}  // namespace facet::kernels
