// How the KV blocks of a batch are dealt to thread blocks. A unit is one KV block of one lane for
// one tile of query heads (those of a KV head, at most 8). Units are numbered lane by lane, head
// tile by head tile, position by position; thread block c of `active` has units
// [total * c / active, total * (c + 1) / active).
#pragma once

#include "kernels/attention/paged_decode_attention.h"
#include "kernels/base/device.cuh"

namespace facet::kernels::decode {

constexpr int kHeadTile = 8;
constexpr int kMaxLanes = 1024;
constexpr int kMaxCounters = 32768;  // lanes * head tiles, at most
constexpr int kMinUnits = 4;         // of a thread block: fewer cost more to add up than to read
constexpr int kBlocksPerSm = 2;
constexpr std::size_t kReservedShared = 1024;  // that an SM keeps of its shared memory for a block

struct Params {
  PagedDecodeShape shape;
  PagedDecodeArgs args;
  int group;       // query heads of a KV head
  int tiles;       // head tiles of a KV head
  int head_tiles;  // of a lane
  float scale_log2;
  int* counters;  // [lanes, head_tiles]: parts of it that are written
  float* parts;   // [grid, 2, kHeadTile * (head_dim + 2)]
};

// What a unit stands for.
struct Unit {
  int lane;
  int head_tile;
  int block;  // index in the lane's block table
  int begin;  // units [begin, end) are this lane's and head tile's
  int end;
};

// Positions of a lane that its new token sees.
struct Span {
  int first;
  int length;
  __device__ int first_block() const { return first / kKvBlockTokens; }
  __device__ int blocks() const {
    return length == 0 ? 0 : (length + kKvBlockTokens - 1) / kKvBlockTokens - first_block();
  }
};

struct Split {
  const Params& p;
  int* lengths;  // shared, [lanes]
  int* prefix;   // shared, [lanes + 1]: units before each lane
  int total = 0;
  int active = 1;

  __device__ Split(const Params& params, int* shared)
      : p(params), lengths(shared), prefix(shared + params.shape.lanes) {}

  static __host__ __device__ std::size_t shared_bytes(int lanes) {
    return (2 * static_cast<std::size_t>(lanes) + 1 + 3) / 4 * 16;
  }

  __device__ Span span(int lane) const {
    const int length = lengths[lane];
    const int window = p.shape.window;
    return {window > 0 && length > window ? length - window : 0, length};
  }

  // Reads the lengths; all threads of the block call it, and are in step behind it.
  __device__ void read() {
    const int most = p.shape.max_blocks * kKvBlockTokens;
    for (int lane = static_cast<int>(threadIdx.x); lane < p.shape.lanes;
         lane += static_cast<int>(blockDim.x))
      lengths[lane] = min(max(p.args.lengths[lane], 0), most);
    __syncthreads();
    if (threadIdx.x < 32) {
      int carry = 0;
      for (int base = 0; base < p.shape.lanes; base += 32) {
        const int lane = base + static_cast<int>(threadIdx.x);
        int sum = lane < p.shape.lanes ? span(lane).blocks() * p.head_tiles : 0;
#pragma unroll
        for (int step = 1; step < 32; step *= 2) {
          const int other = __shfl_up_sync(0xffffffffU, sum, step);
          if (static_cast<int>(threadIdx.x) >= step) sum += other;
        }
        if (lane < p.shape.lanes) prefix[lane + 1] = carry + sum;
        carry += __shfl_sync(0xffffffffU, sum, 31);
      }
      if (threadIdx.x == 0) prefix[0] = 0;
    }
    __syncthreads();
    total = prefix[p.shape.lanes];
    active = min(static_cast<int>(gridDim.x), max(1, total / kMinUnits));
  }

  __device__ int begin_of(int thread_block) const {
    return static_cast<int>(static_cast<std::int64_t>(total) * thread_block / active);
  }
  __device__ int owner_of(int unit) const {
    return static_cast<int>(((static_cast<std::int64_t>(unit) + 1) * active - 1) / total);
  }

  // None of its tokens is its lane's newest.
  __device__ bool is_old(const Unit& unit) const {
    return unit.block < (lengths[unit.lane] - 1) / kKvBlockTokens;
  }

  // The unit's lane is at or behind `from_lane`.
  __device__ Unit at(int unit, int from_lane) const {
    int lane = from_lane;
    while (prefix[lane + 1] <= unit) ++lane;
    return in_lane(unit, lane);
  }
  __device__ Unit find(int unit) const {
    int low = 0;
    int high = p.shape.lanes - 1;  // the first lane that ends behind the unit
    while (low < high) {
      const int middle = (low + high) / 2;
      if (prefix[middle + 1] <= unit)
        low = middle + 1;
      else
        high = middle;
    }
    return in_lane(unit, low);
  }
  __device__ Unit in_lane(int unit, int lane) const {
    const Span positions = span(lane);
    const int blocks = positions.blocks();
    const int inside = unit - prefix[lane];
    const int head_tile = inside / blocks;
    const int begin = prefix[lane] + head_tile * blocks;
    return {lane, head_tile, positions.first_block() + unit - begin, begin, begin + blocks};
  }
};

}  // namespace facet::kernels::decode
