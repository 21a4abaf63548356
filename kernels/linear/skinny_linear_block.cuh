// One block of skinny_linear: eight warps, each with a ring of its own in shared memory that holds
// the next pieces of the weights. A piece is 16 rows of W by 64 of k, 2 KB; the block's pieces are
// dealt to its warps in turn, so that K is split between warps and every row of x is needed by all.
// A ring needs no barrier but its warp's; pieces of later tiles are asked for while earlier ones
// are added up, so that the memory never waits for the block.
#pragma once

#include "kernels/base/device.cuh"
#include "kernels/linear/skinny_linear.h"

namespace facet::kernels::skinny {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kTileRows = 16;
constexpr int kPieceK = 64;
constexpr int kRowBytes = kPieceK * 2;  // of a piece, for types of 2 bytes
constexpr int kPieceBytes = kTileRows * kRowBytes;
constexpr int kMaxStages = 8;

struct Params {
  const void* x;
  const void* norm;
  const void* weight;
  const void* bias;
  void* out;
  std::int64_t x_stride, out_stride;
  int m, n, k;
  int pieces;  // ceil(k / 64)
  int stages;
  SkinnyEpilogue epilogue;
  float eps;
};

// Shared memory, in this order: rings, partial sums, x.
__host__ __device__ constexpr int slot_bytes(int tiles_m, bool stream_x) {
  return kPieceBytes + (stream_x ? tiles_m * 8 * kRowBytes : 0);
}
__host__ __device__ constexpr int partial_bytes(int tiles_m) {
  return 2 * kWarps * kTileRows * 8 * tiles_m * 4;
}
// Rows of x lie half a bank row apart, so that neighbouring rows are read without a conflict.
__host__ __device__ constexpr int x_row_bytes(int pieces) {
  return pieces * kRowBytes + kRowBytes / 2;
}

// Where 16 bytes of a piece's row lie: odd rows have their halves swapped against bank conflicts.
__device__ __forceinline__ int place_in_piece(int row, int column) {
  return row * kRowBytes + ((column ^ ((row & 1) << 2)) << 4);
}

// Output rows of a block and the tiles they are cut into.
struct Tiles {
  int first;  // output row (with silu: output column)
  int count;
  int num;
  bool paired;  // rows 8..15 of a tile are the `up` rows of rows 0..7

  __device__ Tiles(const Params& p) {
    paired = p.epilogue == SkinnyEpilogue::kSiluMul;
    const std::int64_t units = paired ? p.n / 2 : p.n;
    first = static_cast<int>(units * blockIdx.x / gridDim.x);
    count = static_cast<int>(units * (blockIdx.x + 1) / gridDim.x) - first;
    const int capacity = paired ? kTileRows / 2 : kTileRows;
    num = (count + capacity - 1) / capacity;
  }
  __device__ int begin(int tile) const {
    return first + static_cast<int>(static_cast<std::int64_t>(count) * tile / num);
  }
  __device__ int size(int tile) const { return begin(tile + 1) - begin(tile); }
};

// A warp's way through the pieces of its block: piece i of all tiles, in order, is of warp i % 8.
struct Cursor {
  int tile = 0;
  int piece = 0;

  __device__ static int first_piece(int tile, int pieces, int warp) {
    return (warp - tile * pieces) & (kWarps - 1);
  }
  __device__ void start(const Tiles& tiles, int pieces, int warp) {
    tile = 0;
    piece = first_piece(0, pieces, warp);
    settle(tiles, pieces, warp);
  }
  __device__ void next(const Tiles& tiles, int pieces, int warp) {
    piece += kWarps;
    settle(tiles, pieces, warp);
  }
  __device__ void settle(const Tiles& tiles, int pieces, int warp) {
    while (tile < tiles.num && piece >= pieces) {
      ++tile;
      piece = first_piece(tile, pieces, warp);
    }
  }
};

// kStreamX: x goes through the rings with the weights, since all of it would not fit.
template <class T, int kTilesM, bool kStreamX>
struct Block {
  static constexpr int kSlotBytes = slot_bytes(kTilesM, kStreamX);
  static constexpr int kM = 8 * kTilesM;

  const Params& p;
  const Tiles tiles;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::uint32_t ring;  // of this warp
  float* const partials;     // [2][kWarps][kTileRows][kM]
  const std::uint32_t x_shared;
  Cursor ahead;  // the next piece to ask for
  int ahead_slot = 0;
  float acc[kTilesM][4] = {};

  __device__ Block(const Params& params, char* shared)
      : p(params),
        tiles(params),
        ring(shared_address(shared) + static_cast<unsigned>(warp * params.stages * kSlotBytes)),
        partials(reinterpret_cast<float*>(shared + kWarps * params.stages * kSlotBytes)),
        x_shared(
            shared_address(shared) +
            static_cast<unsigned>(kWarps * params.stages * kSlotBytes + partial_bytes(kTilesM))) {
    ahead.start(tiles, p.pieces, warp);
  }

  __device__ void ask_for_weights(const Cursor& at, std::uint32_t slot) {
    const int begin = tiles.begin(at.tile);
    const int size = tiles.size(at.tile);
    const int column = lane % 8;
    const int k = at.piece * kPieceK + column * 8;
#pragma unroll
    for (int j = 0; j < kTileRows / 4; ++j) {
      const int row = j * 4 + lane / 8;
      const bool is_up = tiles.paired && row >= kTileRows / 2;
      const int unit = is_up ? row - kTileRows / 2 : row;
      // Rows that are not there stay as they are: they reach only sums that nobody reads.
      if (unit >= size) continue;
      const std::int64_t source = begin + unit + (is_up ? p.n / 2 : 0);
      const bool valid = k < p.k;
      const T* from = static_cast<const T*>(p.weight) + source * p.k + (valid ? k : 0);
      copy_async(slot + static_cast<unsigned>(place_in_piece(row, column)), from, valid);
    }
  }

  __device__ void ask_for_x(const Cursor& at, std::uint32_t slot) {
    const int column = lane % 8;
    const int k = at.piece * kPieceK + column * 8;
#pragma unroll
    for (int j = 0; j < kM / 4; ++j) {
      const int row = j * 4 + lane / 8;
      if (row >= p.m) continue;
      const bool valid = k < p.k;
      const T* from = static_cast<const T*>(p.x) + row * p.x_stride + (valid ? k : 0);
      copy_async(slot + static_cast<unsigned>(kPieceBytes + place_in_piece(row, column)), from,
                 valid);
    }
  }

  __device__ std::uint32_t slot_at(int index) const {
    return ring + static_cast<unsigned>(index * kSlotBytes);
  }

  // The next piece into the next slot, and a group, empty or not, closed behind it.
  __device__ void ask_for_next(bool with_x) {
    if (ahead.tile < tiles.num) {
      ask_for_weights(ahead, slot_at(ahead_slot));
      if (with_x) ask_for_x(ahead, slot_at(ahead_slot));
      ahead.next(tiles, p.pieces, warp);
    }
    commit_copies();
    ahead_slot = ahead_slot + 1 == p.stages ? 0 : ahead_slot + 1;
  }

  // x of the pieces asked for before x was there, by way of registers: a group of its own would
  // only be complete when all the weights before it are.
  __device__ void load_first_x() {
    Cursor at;
    at.start(tiles, p.pieces, warp);
    const int column = lane % 8;
    for (int i = 0; i + 1 < p.stages && at.tile < tiles.num; ++i) {
      const int k = at.piece * kPieceK + column * 8;
#pragma unroll
      for (int j = 0; j < kM / 4; ++j) {
        const int row = j * 4 + lane / 8;
        if (row >= p.m) continue;
        uint4 value = make_uint4(0, 0, 0, 0);
        if (k < p.k)
          value =
              *reinterpret_cast<const uint4*>(static_cast<const T*>(p.x) + row * p.x_stride + k);
        const std::uint32_t to =
            slot_at(i) + static_cast<unsigned>(kPieceBytes + place_in_piece(row, column));
        asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(value.x),
                     "r"(value.y), "r"(value.z), "r"(value.w)
                     : "memory");
      }
      at.next(tiles, p.pieces, warp);
    }
  }

  __device__ uint4 x_fragment(std::uint32_t slot, int piece, int half, int tile_m) const {
    const int row = tile_m * 8 + lane / 4;
    const int column = half * 4 + lane % 4;
    if constexpr (kStreamX)
      return load_shared_16(slot +
                            static_cast<unsigned>(kPieceBytes + place_in_piece(row, column)));
    const int valid_row = row < p.m ? row : p.m - 1;  // its sums are not read
    return load_shared_16(x_shared + static_cast<unsigned>(valid_row * x_row_bytes(p.pieces) +
                                                           piece * kRowBytes + column * 16));
  }

  // acc += W piece * x piece. The order of k inside a piece is the same permutation for both: a
  // thread's 16 bytes are k 8 t .. 8 t + 7 of its half, for two products of 16.
  __device__ void add_piece(std::uint32_t slot, int piece) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int place = place_in_piece(lane / 4, half * 4 + lane % 4);
      const uint4 low = load_shared_16(slot + static_cast<unsigned>(place));
      const uint4 high = load_shared_16(slot + static_cast<unsigned>(place + 8 * kRowBytes));
#pragma unroll
      for (int tile_m = 0; tile_m < kTilesM; ++tile_m) {
        const uint4 x = x_fragment(slot, piece, half, tile_m);
        mma_16x8x16<T>(acc[tile_m], low.x, high.x, low.y, high.y, x.x, x.y);
        mma_16x8x16<T>(acc[tile_m], low.z, high.z, low.w, high.w, x.z, x.w);
      }
    }
  }

  __device__ void wait_for_oldest() const {
    switch (p.stages) {
      case 2:
        wait_for_copies<0>();
        break;
      case 3:
        wait_for_copies<1>();
        break;
      case 4:
        wait_for_copies<2>();
        break;
      case 5:
        wait_for_copies<3>();
        break;
      case 6:
        wait_for_copies<4>();
        break;
      case 7:
        wait_for_copies<5>();
        break;
      default:
        wait_for_copies<6>();
        break;
    }
    __syncwarp();
  }

  __device__ float* partial_at(int tile, int of_warp) const {
    return partials + ((tile & 1) * kWarps + of_warp) * kTileRows * kM;
  }

  __device__ void store_partial(int tile) {
    float* to = partial_at(tile, warp) + lane / 4 * kM + lane % 4 * 2;
#pragma unroll
    for (int tile_m = 0; tile_m < kTilesM; ++tile_m) {
      *reinterpret_cast<float2*>(to + tile_m * 8) = make_float2(acc[tile_m][0], acc[tile_m][1]);
      *reinterpret_cast<float2*>(to + 8 * kM + tile_m * 8) =
          make_float2(acc[tile_m][2], acc[tile_m][3]);
#pragma unroll
      for (float& sum : acc[tile_m]) sum = 0.0F;
    }
  }

  // The sum over warps of one output, by rank.
  __device__ float total(int tile, int row, int column) const {
    float sum = 0.0F;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) sum += partial_at(tile, w)[row * kM + column];
    return sum;
  }
};

}  // namespace facet::kernels::skinny
