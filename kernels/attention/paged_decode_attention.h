// Attention of one new token per lane over its KV in paged blocks.
//   out[lane, h] = softmax(scale * q[lane, h] . K) V     over positions [first, length) of the
//   lane, first = window > 0 ? max(0, length - window) : 0
// Bound by the KV bytes: 2 * length * kv_heads * head_dim * sizeof(T) a lane, read once for every
// eight query heads that share a KV head. bf16, fp16, and fp32 for tests.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/base/kv_layout.h"
#include "kernels/base/launch.h"

namespace facet::kernels {

// That it is compiled for.
inline constexpr std::array<std::int32_t, 6> kDecodeHeadDims{32, 64, 80, 96, 128, 256};

struct PagedDecodeShape {
  std::int32_t lanes = 0;  // rows of q: those with length 0 get zeros
  std::int32_t heads = 0;  // a multiple of kv_heads
  std::int32_t kv_heads = 0;
  std::int32_t head_dim = 0;    // one of kDecodeHeadDims
  std::int32_t max_blocks = 0;  // width of the block table
  std::int32_t window = 0;      // 0: all positions
  float scale = 1.0F;
  DType dtype = DType::kBf16;
  KvLayout layout;
};

// All in device memory.
struct PagedDecodeArgs {
  const void* q = nullptr;     // [lanes, heads, head_dim], rows q_stride elements apart
  std::int64_t q_stride = 0;   // multiple of 8
  const void* keys = nullptr;  // the layer's pools
  const void* values = nullptr;
  // These two, and all tokens of the pools but each lane's newest, are read before the kernel waits
  // for the one before it: no kernel that it may overlap writes them.
  const std::int32_t* block_table = nullptr;  // [lanes, max_blocks]
  const std::int32_t* lengths = nullptr;      // [lanes], the new token included
  void* out = nullptr;                        // [lanes, heads, head_dim], dense
  void* workspace = nullptr;                  // zeroed once; one per stream
};

// Bytes of workspace for any number of lanes up to `lanes`.
std::size_t paged_decode_workspace_bytes(const PagedDecodeShape& shape);

// Work is cut at launch time, on the device, into equal runs of blocks over all lanes and KV heads
// (the grid depends on the device alone), so that lanes of very different lengths cost their sum.
// The parts of a lane are added up in the order of their positions: the same lengths give the same
// bits. fp32 has a slow path for tests.
cudaError_t paged_decode_attention(const PagedDecodeShape& shape, const PagedDecodeArgs& args,
                                   const Launch& launch);

}  // namespace facet::kernels
