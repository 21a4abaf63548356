// One warp of paged_decode_attention. Tokens are the rows and query heads the columns of its
// products (S^T = K Q^T, O^T = V^T P^T), so that a tile of 8 heads fills the tensor cores' narrow
// side and nothing is wasted on heads that are not there.
#pragma once

#include "kernels/attention/paged_decode_split.cuh"

namespace facet::kernels::decode {

__device__ __forceinline__ void load_matrices(std::uint32_t (&r)[4], std::uint32_t from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(from)
               : "memory");
}
__device__ __forceinline__ void load_matrices_turned(std::uint32_t (&r)[4], std::uint32_t from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(from)
               : "memory");
}
// An 8 by 8 matrix of 16-bit values, two of a row in each thread, turned.
__device__ __forceinline__ std::uint32_t turn_matrix(std::uint32_t x) {
  std::uint32_t y;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
  return y;
}

template <class T>
__device__ __forceinline__ std::uint32_t pack(float low, float high) {
  const T a = from_float<T>(low);
  const T b = from_float<T>(high);
  return static_cast<std::uint32_t>(reinterpret_cast<const std::uint16_t&>(a)) |
         static_cast<std::uint32_t>(reinterpret_cast<const std::uint16_t&>(b)) << 16;
}

template <class T, int kDim>
struct Warp {
  static constexpr int kStages = 2;
  static constexpr int kRowBytes = kDim * 2 + 16;  // 16 more, so that 8 rows meet 32 banks
  static constexpr int kTileBytes = kKvBlockTokens * kRowBytes;
  static constexpr int kStageBytes = 2 * kTileBytes;  // keys, values
  static constexpr int kSteps = kDim / 16;
  static constexpr int kChunks = kDim / 8;  // 16-byte words of a row

  const Params& p;
  const std::uint32_t ring;
  const int lane_id = static_cast<int>(threadIdx.x) % 32;
  std::uint32_t q[kSteps][2];  // Q^T, of the current head tile
  float out[kSteps][4];        // O^T: rows d and d + 8, heads 2 t and 2 t + 1
  float top[2];                // the largest scaled score (base 2) of those heads so far
  float sum[2];                // of this thread's tokens

  __device__ Warp(const Params& params, std::uint32_t my_ring) : p(params), ring(my_ring) {}

  __device__ void reset() {
#pragma unroll
    for (int i = 0; i < kSteps; ++i)
#pragma unroll
      for (float& x : out[i]) x = 0.0F;
    top[0] = top[1] = -INFINITY;
    sum[0] = sum[1] = 0.0F;
  }

  // Query heads of a tile; those beyond the group are zeros.
  __device__ void load_q(const Unit& unit) {
    const int head_in_group = unit.head_tile % p.tiles * kHeadTile + lane_id / 4;
    const int head = unit.head_tile / p.tiles * p.group + head_in_group;
    const T* from = static_cast<const T*>(p.args.q) + unit.lane * p.args.q_stride +
                    static_cast<std::int64_t>(head) * kDim + lane_id % 4 * 2;
    const bool valid = head_in_group < p.group;
#pragma unroll
    for (int i = 0; i < kSteps; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        q[i][half] = valid ? *reinterpret_cast<const std::uint32_t*>(from + i * 16 + half * 8) : 0U;
  }

  // The unit's keys and values into a stage; zeros where no position is.
  __device__ void ask_for(const Unit& unit, const Span& positions, int stage) {
    const std::int64_t block =
        p.args.block_table[static_cast<std::int64_t>(unit.lane) * p.shape.max_blocks + unit.block];
    const std::int64_t base =
        block * p.shape.layout.block_stride + unit.head_tile / p.tiles * p.shape.layout.head_stride;
    const int first = unit.block * kKvBlockTokens;
    const std::uint32_t to = ring + static_cast<unsigned>(stage * kStageBytes);
#pragma unroll
    for (int i = 0; i < kKvBlockTokens * kChunks / 32; ++i) {
      const int word = i * 32 + lane_id;
      const int token = word / kChunks;
      const int column = word % kChunks;
      const bool valid = first + token >= positions.first && first + token < positions.length;
      const std::int64_t at = base + (valid ? token : 0) * p.shape.layout.token_stride + column * 8;
      const auto place = static_cast<unsigned>(token * kRowBytes + column * 16);
      copy_async(to + place, static_cast<const T*>(p.args.keys) + at, valid);
      copy_async(to + kTileBytes + place, static_cast<const T*>(p.args.values) + at, valid);
    }
  }

  // Scaled scores of 16 tokens: [0], [1] token g, heads 2 t, 2 t + 1; [2], [3] token g + 8.
  __device__ void scores_of(std::uint32_t keys, float (&s)[4]) const {
    float even[4] = {};
    float odd[4] = {};
    const int row = lane_id / 8 % 2 * 8 + lane_id % 8;
    const std::uint32_t from = keys + static_cast<unsigned>(row * kRowBytes + lane_id / 16 * 16);
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      std::uint32_t a[4];
      load_matrices(a, from + static_cast<unsigned>(i * 32));
      mma_16x8x16<T>(i % 2 == 0 ? even : odd, a[0], a[1], a[2], a[3], q[i][0], q[i][1]);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) s[i] = (even[i] + odd[i]) * p.scale_log2;
  }

  // The running maximum takes in two more tokens of each of the thread's heads; what was summed
  // under the old one is scaled.
  __device__ void raise_top(const float (&s)[4]) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float most = fmaxf(s[h], s[h + 2]);
#pragma unroll
      for (int step = 4; step < 32; step *= 2)
        most = fmaxf(most, __shfl_xor_sync(0xffffffffU, most, step));
      most = fmaxf(most, top[h]);
      const float shrink = exp2f(top[h] - most);
      top[h] = most;
      sum[h] *= shrink;
#pragma unroll
      for (int i = 0; i < kSteps; ++i) {
        out[i][h] *= shrink;
        out[i][h + 2] *= shrink;
      }
    }
  }

  // Adds the unit whose keys and values lie in `stage`.
  __device__ void add(const Unit& unit, const Span& positions, int stage) {
    const std::uint32_t keys = ring + static_cast<unsigned>(stage * kStageBytes);
    float s[4];
    scores_of(keys, s);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int position = unit.block * kKvBlockTokens + lane_id / 4 + half * 8;
      if (position < positions.first || position >= positions.length)
        s[2 * half] = s[2 * half + 1] = -INFINITY;
    }
    raise_top(s);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      s[i] = exp2f(s[i] - top[i % 2]);
      sum[i % 2] += s[i];
    }
    const std::uint32_t p0 = turn_matrix(pack<T>(s[0], s[1]));
    const std::uint32_t p1 = turn_matrix(pack<T>(s[2], s[3]));
    const int token = lane_id / 16 * 8 + lane_id % 8;
    const std::uint32_t from =
        keys + static_cast<unsigned>(kTileBytes + token * kRowBytes + lane_id / 8 % 2 * 16);
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      std::uint32_t a[4];
      load_matrices_turned(a, from + static_cast<unsigned>(i * 32));
      mma_16x8x16<T>(out[i], a[0], a[1], a[2], a[3], p0, p1);
    }
  }

  // To shared memory for the sum over warps: values [kHeadTile][kDim + 4], then top, sum
  // [kHeadTile].
  static constexpr int kOutRow = kDim + 4;
  static constexpr int kOutFloats = kHeadTile * kOutRow + 2 * kHeadTile;

  __device__ void store(float* to) {
    const int head = lane_id % 4 * 2;
    const int d = lane_id / 4;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float total = sum[h];
#pragma unroll
      for (int step = 4; step < 32; step *= 2) total += __shfl_xor_sync(0xffffffffU, total, step);
      if (d == 0) {
        to[kHeadTile * kOutRow + head + h] = top[h];
        to[kHeadTile * kOutRow + kHeadTile + head + h] = total;
      }
#pragma unroll
      for (int i = 0; i < kSteps; ++i) {
        to[(head + h) * kOutRow + i * 16 + d] = out[i][h];
        to[(head + h) * kOutRow + i * 16 + 8 + d] = out[i][h + 2];
      }
    }
  }
};

}  // namespace facet::kernels::decode
