#include "kernels/attention/paged_decode_attention.h"
#include "kernels/attention/paged_decode_fp32.cuh"
#include "kernels/attention/paged_decode_split.cuh"
#include "kernels/attention/paged_decode_warp.cuh"
#include "kernels/base/launch.cuh"

namespace facet::kernels {
namespace decode {
namespace {

// A run of units of one lane and head tile inside a thread block's share.
template <class T, int kDim, int kWarps>
struct Block {
  using W = Warp<T, kDim>;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kPartFloats = kHeadTile * (kDim + 2);

  const Params& p;
  const Split& split;
  float* const sums;     // shared, [kWarps][W::kOutFloats]
  int* const is_last;    // shared
  float* const weights;  // shared, of parts: [kHeadTile, grid], then the inverse of each head's sum

  __device__ float* part_of(int thread_block, int which) const {
    return p.parts + (static_cast<std::int64_t>(thread_block) * 2 + which) * kPartFloats;
  }

  // Value d of head h over all warps; top and total: the largest score and the sum of weights.
  __device__ float sum_over_warps(int h, int d, float& top, float& total) const {
    top = -INFINITY;
#pragma unroll
    for (int w = 0; w < kWarps; ++w)
      top = fmaxf(top, sums[w * W::kOutFloats + kHeadTile * W::kOutRow + h]);
    float value = 0.0F;
    total = 0.0F;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      const float* of_warp = sums + w * W::kOutFloats;
      const float weight = exp2f(of_warp[kHeadTile * W::kOutRow + h] - top);
      value += weight * of_warp[h * W::kOutRow + d];
      total += weight * of_warp[kHeadTile * W::kOutRow + kHeadTile + h];
    }
    return value;
  }

  __device__ int heads_in(const Unit& unit) const {
    return min(kHeadTile, p.group - unit.head_tile % p.tiles * kHeadTile);
  }
  __device__ T* out_of(const Unit& unit) const {
    const int head = unit.head_tile / p.tiles * p.group + unit.head_tile % p.tiles * kHeadTile;
    return static_cast<T*>(p.args.out) +
           (static_cast<std::int64_t>(unit.lane) * p.shape.heads + head) * kDim;
  }

  __device__ void write_whole(const Unit& unit) const {
    T* out = out_of(unit);
    for (int i = static_cast<int>(threadIdx.x); i < heads_in(unit) * kDim; i += kThreads) {
      float top;
      float total;
      const float value = sum_over_warps(i / kDim, i % kDim, top, total);
      out[i] = from_float<T>(value / total);
    }
  }

  // Part: values [heads][kDim], then top and sum of each head.
  __device__ void write_part(const Unit& unit, int which) const {
    float* part = part_of(static_cast<int>(blockIdx.x), which);
    for (int i = static_cast<int>(threadIdx.x); i < heads_in(unit) * kDim; i += kThreads) {
      float top;
      float total;
      const int h = i / kDim;
      part[i] = sum_over_warps(h, i % kDim, top, total);
      if (i % kDim != 0) continue;
      part[kHeadTile * kDim + h] = top;
      part[kHeadTile * kDim + kHeadTile + h] = total;
    }
  }

  // Whoever writes the last part adds all of them up, in the order of positions.
  __device__ void finish_part(const Unit& unit) const {
    const int first = split.owner_of(unit.begin);
    const int last = split.owner_of(unit.end - 1);
    int* counter = p.counters + unit.lane * p.head_tiles + unit.head_tile;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
      const bool mine = atomicAdd(counter, 1) == last - first;
      if (mine) *counter = 0;  // for the next launch
      *is_last = mine ? 1 : 0;
    }
    __syncthreads();
    if (*is_last == 0) return;
    __threadfence();
    add_parts(unit, first, last);
  }

  // Of a head the weight of each part, and the inverse of their sum; a warp a head.
  __device__ void weigh_parts(int h, int first, int last, int first_which) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const auto of_head = [&](int c, int which) {
      return __ldcg(part_of(c, c == first ? first_which : 0) + kHeadTile * (kDim + which) + h);
    };
    float* const weight = weights + h * static_cast<int>(gridDim.x);
    float top = -INFINITY;
    for (int c = first + lane; c <= last; c += 32) {
      weight[c - first] = of_head(c, 0);
      top = fmaxf(top, weight[c - first]);
    }
    top = warp_reduce(top, [](float x, float y) { return fmaxf(x, y); });
    float total = 0.0F;
    for (int c = first + lane; c <= last; c += 32) {
      weight[c - first] = exp2f(weight[c - first] - top);
      total += weight[c - first] * of_head(c, 1);
    }
    total = warp_sum(total);
    if (lane == 0) weights[kHeadTile * static_cast<int>(gridDim.x) + h] = 1.0F / total;
  }

  __device__ void add_parts(const Unit& unit, int first, int last) const {
    constexpr int kAtOnce = 8;  // parts on their way
    const int first_which = split.begin_of(first) < unit.begin ? 1 : 0;
    const int heads = heads_in(unit);
    for (int h = static_cast<int>(threadIdx.x) / 32; h < heads; h += kWarps)
      weigh_parts(h, first, last, first_which);
    __syncthreads();
    T* out = out_of(unit);
    for (int i = static_cast<int>(threadIdx.x) * 4; i < heads * kDim; i += kThreads * 4) {
      const int h = i / kDim;
      const float* const weight = weights + h * static_cast<int>(gridDim.x);
      float4 value = {};
      for (int c = first; c <= last; c += kAtOnce) {
        float4 part[kAtOnce];
#pragma unroll
        for (int j = 0; j < kAtOnce; ++j)
          if (c + j <= last)
            part[j] = __ldcg(reinterpret_cast<const float4*>(
                part_of(c + j, c + j == first ? first_which : 0) + i));
#pragma unroll
        for (int j = 0; j < kAtOnce; ++j) {
          if (c + j > last) continue;
          const float w = weight[c + j - first];
          value.x += w * part[j].x, value.y += w * part[j].y;
          value.z += w * part[j].z, value.w += w * part[j].w;
        }
      }
      const float scale = weights[kHeadTile * static_cast<int>(gridDim.x) + h];
      const T four[4] = {from_float<T>(value.x * scale), from_float<T>(value.y * scale),
                         from_float<T>(value.z * scale), from_float<T>(value.w * scale)};
      *reinterpret_cast<uint2*>(out + i) = *reinterpret_cast<const uint2*>(four);
    }
  }
};

template <class T>
__device__ void zero_empty_lanes(const Params& p, const Split& split) {
  const int width = p.shape.heads * p.shape.head_dim;
  for (int lane = static_cast<int>(blockIdx.x); lane < p.shape.lanes;
       lane += static_cast<int>(gridDim.x)) {
    if (split.lengths[lane] != 0) continue;
    T* out = static_cast<T*>(p.args.out) + static_cast<std::int64_t>(lane) * width;
    for (int i = static_cast<int>(threadIdx.x); i < width; i += static_cast<int>(blockDim.x))
      out[i] = from_float<T>(0.0F);
  }
}

// Shared memory: rings, sums of warps, the split.
template <class T, int kDim, int kWarps>
constexpr std::size_t kFixedShared =
    static_cast<std::size_t>(kWarps) * Warp<T, kDim>::kStages* Warp<T, kDim>::kStageBytes +
    static_cast<std::size_t>(kWarps) * Warp<T, kDim>::kOutFloats * 4 + 16;

template <class T, int kDim, int kWarps>
__global__ void __launch_bounds__(32 * kWarps) decode_kernel(const __grid_constant__ Params p) {
  using W = Warp<T, kDim>;
  extern __shared__ __align__(128) char shared[];
  constexpr int kRingBytes = W::kStages * W::kStageBytes;
  auto* sums = reinterpret_cast<float*>(shared + kWarps * kRingBytes);
  auto* is_last = reinterpret_cast<int*>(sums + kWarps * W::kOutFloats);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  let_next_kernel_start();
  Split split(p, is_last + 4);
  split.read();
  const bool active = split.total != 0 && static_cast<int>(blockIdx.x) < split.active;
  const int begin = active ? split.begin_of(static_cast<int>(blockIdx.x)) : 0;
  const int end = active ? split.begin_of(static_cast<int>(blockIdx.x) + 1) : 0;
  float* const weights =
      reinterpret_cast<float*>(is_last + 4) + Split::shared_bytes(p.shape.lanes) / sizeof(float);
  const Block<T, kDim, kWarps> block{p, split, sums, is_last, weights};
  W work(p, shared_address(shared) + static_cast<unsigned>(warp * kRingBytes));

  // Unit begin + i is warp i % kWarps's. `ahead` is the next one to ask for.
  int ahead = begin + warp;
  int ahead_stage = 0;
  Unit next = active ? split.find(begin) : Unit{};
  const auto ask_for_next = [&] {
    if (ahead < end) {
      next = split.at(ahead, next.lane);
      work.ask_for(next, split.span(next.lane), ahead_stage);
      ahead += kWarps;
    }
    commit_copies();
    ahead_stage = ahead_stage + 1 == W::kStages ? 0 : ahead_stage + 1;
  };
  // What has been in the pool for longer does not wait for the kernel that writes the new tokens.
  static_assert(W::kStages == 2);
  const bool early = ahead < end && split.is_old(split.at(ahead, next.lane));
  if (early) ask_for_next();
  wait_for_previous_kernel();
  zero_empty_lanes<T>(p, split);
  if (!active) return;
  if (!early) ask_for_next();

  int stage = 0;
  int mine = begin + warp;
  Unit unit = split.find(begin);
  for (int at = begin; at < end; at = unit.end) {
    unit = split.at(at, unit.lane);
    const int stop = min(end, unit.end);
    work.reset();
    if (mine < stop) work.load_q(unit);
    for (; mine < stop; mine += kWarps) {
      wait_for_copies<W::kStages - 2>();
      __syncwarp();
      ask_for_next();
      work.add(split.in_lane(mine, unit.lane), split.span(unit.lane), stage);
      __syncwarp();
      stage = stage + 1 == W::kStages ? 0 : stage + 1;
    }
    work.store(sums + warp * W::kOutFloats);
    __syncthreads();
    if (at == unit.begin && stop == unit.end) {
      block.write_whole(unit);
    } else {
      block.write_part(unit, at == begin ? 0 : 1);
      block.finish_part(unit);
    }
    __syncthreads();  // the sums are read before they are written again
  }
  wait_for_copies<0>();
}

// Thread blocks for the whole device, as many as fit it at once: while one adds up its warps, the
// other of an SM reads.
template <class T, int kDim, int kWarps>
int blocks_at_once(const Params& p, std::size_t& bytes) {
  const DeviceFacts& facts = device_facts();
  const auto sms = static_cast<std::size_t>(facts.num_sms);
  for (std::size_t per_sm = kBlocksPerSm; per_sm > 0; --per_sm) {
    const std::size_t weights = sizeof(float) * kHeadTile * (sms * per_sm + 1);
    bytes = kFixedShared<T, kDim, kWarps> + Split::shared_bytes(p.shape.lanes) + weights;
    if (per_sm * bytes + (per_sm - 1) * kReservedShared <= facts.shared_bytes)
      return static_cast<int>(sms * per_sm);
  }
  return 0;
}

template <class T, int kDim>
cudaError_t run(const Params& p, const Launch& launch) {
  constexpr int kMany = 4;
  constexpr int kFew = kMany / 2;
  std::size_t bytes = 0;
  if (const int blocks = blocks_at_once<T, kDim, kMany>(p, bytes); blocks > 0)
    return launch_kernel(decode_kernel<T, kDim, kMany>, dim3(static_cast<unsigned>(blocks)),
                         dim3(32 * kMany), bytes, launch, p);
  if (const int blocks = blocks_at_once<T, kDim, kFew>(p, bytes); blocks > 0)
    return launch_kernel(decode_kernel<T, kDim, kFew>, dim3(static_cast<unsigned>(blocks)),
                         dim3(32 * kFew), bytes, launch, p);
  return cudaErrorInvalidValue;
}

template <class T>
cudaError_t run_dim(const Params& p, const Launch& launch) {
  switch (p.shape.head_dim) {
    case 32:
      return run<T, 32>(p, launch);
    case 64:
      return run<T, 64>(p, launch);
    case 80:
      return run<T, 80>(p, launch);
    case 96:
      return run<T, 96>(p, launch);
    case 128:
      return run<T, 128>(p, launch);
    case 256:
      return run<T, 256>(p, launch);
    default:
      return cudaErrorInvalidValue;
  }
}

bool is_valid(const PagedDecodeShape& s, const PagedDecodeArgs& args) {
  const KvLayout& layout = s.layout;
  return s.lanes >= 0 && s.lanes <= kMaxLanes && s.kv_heads >= 1 && s.heads >= s.kv_heads &&
         s.heads % s.kv_heads == 0 && s.max_blocks >= 1 && s.window >= 0 &&
         layout.block_stride % 8 == 0 && layout.token_stride % 8 == 0 &&
         layout.head_stride % 8 == 0 && args.q_stride % 8 == 0 && args.workspace != nullptr;
}

}  // namespace
}  // namespace decode

std::size_t paged_decode_workspace_bytes(const PagedDecodeShape& shape) {
  return sizeof(int) * decode::kMaxCounters +
         sizeof(float) * static_cast<std::size_t>(device_facts().num_sms) * decode::kBlocksPerSm *
             2 * decode::kHeadTile * (static_cast<std::size_t>(shape.head_dim) + 2);
}

cudaError_t paged_decode_attention(const PagedDecodeShape& shape, const PagedDecodeArgs& args,
                                   const Launch& launch) {
  if (!decode::is_valid(shape, args)) return cudaErrorInvalidValue;
  if (shape.lanes == 0) return cudaSuccess;
  decode::Params p{};
  p.shape = shape;
  p.args = args;
  p.group = shape.heads / shape.kv_heads;
  p.tiles = (p.group + decode::kHeadTile - 1) / decode::kHeadTile;
  p.head_tiles = p.tiles * shape.kv_heads;
  p.scale_log2 = shape.scale * 1.4426950408889634F;
  p.counters = static_cast<int*>(args.workspace);
  p.parts = reinterpret_cast<float*>(p.counters + decode::kMaxCounters);
  if (shape.dtype == DType::kFp32) return decode::run_fp32(p, launch);
  if (shape.lanes * p.head_tiles > decode::kMaxCounters) return cudaErrorInvalidValue;
  return shape.dtype == DType::kFp16 ? decode::run_dim<Fp16>(p, launch)
                                     : decode::run_dim<Bf16>(p, launch);
}

}  // namespace facet::kernels
