#include "kernels/base/launch.cuh"
#include "kernels/base/tensor_map.h"
#include "kernels/linear/gated_linear.h"
#include "kernels/linear/linear_pipe.cuh"

namespace facet::kernels {
namespace {

using namespace hopper;  // NOLINT: all of this file

constexpr int kTokens = 256;       // of x in a block
constexpr int kCluster = 2;        // blocks that share them
constexpr int kWidth = kRows / 4;  // values of the output that a warpgroup makes of a token
constexpr int kHalfBytes = kTokens * kWidth * 2;
constexpr int kOutBytes = 2 * kHalfBytes;
constexpr int kSums = kTokens / 2;
// Tiles of x that are worked on together, so that they and the weights beside them stay in the L2
// cache: 66 clusters have about 8 x 8 tiles, 30 MB at K = 3584.
constexpr int kTokenTiles = 8;

static_assert(kWidth * 2 == kSwizzleBytes / 2);

struct Params {
  CUtensorMap weight, x, out;
  const void* bias;
  std::int32_t width;        // of the output
  std::int32_t steps;        // of K
  std::int32_t token_tiles;  // of kTokens
  std::int32_t row_tiles;    // of kCluster * kRows rows of W
};

struct Place {
  int token, row;  // tiles

  __device__ Place(const Params& p, int tile) {
    const int band = tile / (kTokenTiles * p.row_tiles);
    const int height = min(kTokenTiles, p.token_tiles - band * kTokenTiles);
    const int within = tile - band * kTokenTiles * p.row_tiles;
    row = within / height;
    token = band * kTokenTiles + within - row * height;
  }
};

template <class T>
using Lines = Pipe<T, kTokens, kCluster, kOutBytes>;

template <class T>
__device__ void produce(const Params& p, const Lines<T>& pipe, int first, int tiles, int stride) {
  const std::uint64_t policy = evict_last();
  int stage = 0;
  std::uint32_t phase = 0;
  wait_for_previous_kernel();
  for (int tile = first; tile < tiles; tile += stride) {
    const Place place(p, tile);
    const int row = (place.row * kCluster + pipe.rank()) * kRows;
    for (int step = 0; step < p.steps; ++step) {
      pipe.open(stage, phase);
      pipe.fill_weights(stage, p.weight, true, policy, step * kDepth, row);
      pipe.fill_x(stage, p.x, policy, step * kDepth, place.token * kTokens);
      Lines<T>::next(stage, phase);
    }
  }
}

template <class T>
__device__ __forceinline__ std::uint32_t pack(float low, float high) {
  const T pair[2] = {from_float<T>(low), from_float<T>(high)};
  return *reinterpret_cast<const std::uint32_t*>(pair);
}

template <class T>
__device__ __forceinline__ float gated(float gate, float up) {
  return round_to<T>(fast_silu(round_to<T>(gate))) * round_to<T>(up);
}

// A warp's eight values of all tokens, to a row of 64 bytes a token in the swizzle of a box as
// wide: stored 8 x 8 and turned over.
template <class T>
__device__ __forceinline__ void lay_out(const float (&sums)[kSums], float gate_bias, float up_bias,
                                        std::uint32_t out) {
  const std::uint32_t lane = threadIdx.x % 32;
  const std::uint32_t chunk = threadIdx.x / 32 % 4;
#pragma unroll
  for (int i = 0; i < kTokens / 32; ++i) {
    std::uint32_t pairs[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float* const d = sums + 16 * i + 4 * j;
      pairs[j] = pack<T>(gated<T>(d[0] + gate_bias, d[2] + up_bias),
                         gated<T>(d[1] + gate_bias, d[3] + up_bias));
    }
    const std::uint32_t token = 32 * i + lane;  // of matrix lane / 8 its row lane % 8
    const std::uint32_t to = out + token * 2 * kWidth + ((chunk ^ token / 2 % 4) * 16);
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to),
                 "r"(pairs[0]), "r"(pairs[1]), "r"(pairs[2]), "r"(pairs[3])
                 : "memory");
  }
}

// Of a warpgroup. By constant numbers: else all 16 barriers of the block were taken.
__device__ __forceinline__ void sync_group(int group) {
  if (group == 0)
    sync_threads(1, 128);
  else
    sync_threads(2, 128);
}

// A warpgroup. The two do not wait for each other: while one is busy with its output the other has
// the tensor cores.
template <class T>
__device__ void consume(const Params& p, Lines<T>& pipe, std::uint32_t out, int first, int tiles,
                        int stride) {
  const int group = static_cast<int>(threadIdx.x) / 128;
  const bool leads = threadIdx.x % 128 == 0;
  out += static_cast<std::uint32_t>(group) * kHalfBytes;
  const auto* const bias = static_cast<const T*>(p.bias);
  for (int tile = first; tile < tiles; tile += stride) {
    const Place place(p, tile);
    const int column = ((place.row * kCluster + pipe.rank()) * 2 + group) * kWidth;
    float sums[kSums];
    pipe.run(sums, p.steps);
    float gate_bias = 0.0F;
    float up_bias = 0.0F;
    const int mine = column + static_cast<int>(threadIdx.x) / 32 % 4 * 8 +
                     static_cast<int>(threadIdx.x) % 32 / 4;
    if (bias != nullptr && mine < p.width) {
      gate_bias = to_float(bias[mine]);
      up_bias = to_float(bias[p.width + mine]);
    }
    if (leads) wait_until_stores_have_read();
    sync_group(group);
    lay_out<T>(sums, gate_bias, up_bias, out);
    show_to_copies();
    sync_group(group);
    if (leads) store_box(p.out, out, column, place.token * kTokens);
  }
  if (leads) wait_for_stores();
}

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    gated_linear_kernel(const __grid_constant__ Params p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ std::uint8_t dynamic[];
  __shared__ typename Lines<T>::Barriers barriers;
  let_next_kernel_start();
  const std::uint32_t shared = aligned_shared(dynamic);
  Lines<T> pipe(barriers, shared + kOutBytes);
  const int first = static_cast<int>(blockIdx.x) / kCluster;
  const int stride = static_cast<int>(gridDim.x) / kCluster;
  const int tiles = p.token_tiles * p.row_tiles;
  if (threadIdx.x < kConsumers)
    consume<T>(p, pipe, shared, first, tiles, stride);
  else if (threadIdx.x == kConsumers)
    produce<T>(p, pipe, first, tiles, stride);
  // A block of the cluster may still be written to, and its barriers arrived at.
  __syncwarp();
  sync_cluster();
#endif
}

template <class T>
cudaError_t run(const GatedLinearShape& shape, const GatedLinearArgs& args, const Launch& launch) {
  Params p{};
  p.bias = args.bias;
  p.width = shape.n / 2;
  p.steps = (shape.k + kDepth - 1) / kDepth;
  p.token_tiles = static_cast<std::int32_t>((shape.m + kTokens - 1) / kTokens);
  p.row_tiles = (shape.n + kCluster * kRows - 1) / (kCluster * kRows);
  cudaError_t error = make_weight_map(shape.dtype, args.weight, shape.n, shape.k, true, p.weight);
  if (error == cudaSuccess)
    error = make_row_map(shape.dtype, args.x, shape.m, shape.k, kTokens / kCluster, p.x);
  if (error == cudaSuccess)
    error = make_row_map(shape.dtype, args.out, shape.m, shape.n / 2, kTokens, p.out, kWidth);
  if (error != cudaSuccess) return error;
  const int tiles = p.token_tiles * p.row_tiles;
  const int most = device_facts().num_sms / kCluster;
  const auto clusters = static_cast<unsigned>(tiles < most ? tiles : most);
  return launch_clusters(gated_linear_kernel<T>, dim3(clusters * kCluster), dim3(kThreads),
                         Lines<T>::Shape::kDynamicBytes, kCluster, launch, p);
}

}  // namespace

bool gated_linear_fits(const GatedLinearShape& shape) {
  const DeviceFacts& facts = device_facts();
  constexpr std::int64_t kMostTiles = 1 << 28;
  return facts.capability == 90 && facts.shared_bytes >= kSharedBytes &&
         size_of(shape.dtype) == 2 && shape.m >= kTokens && shape.n >= 16 && shape.n % 16 == 0 &&
         shape.k >= 8 && shape.k % 8 == 0 && shape.m / kTokens * (shape.n / kRows) < kMostTiles;
}

cudaError_t gated_linear(const GatedLinearShape& shape, const GatedLinearArgs& args,
                         const Launch& launch) {
  if (!gated_linear_fits(shape)) return cudaErrorInvalidValue;
  if (shape.dtype == DType::kFp16) return run<Fp16>(shape, args, launch);
  return run<Bf16>(shape, args, launch);
}

}  // namespace facet::kernels
