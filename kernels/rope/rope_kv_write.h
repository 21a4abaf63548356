// What happens to a packed row of q, k and v between its projection and attention, in one pass:
// bias, rotary embedding of q and k in place, keys and values into the paged pool.
// Bound by bytes: the row read and written once, k and v written once more.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/base/kv_layout.h"
#include "kernels/base/launch.h"

namespace facet::kernels {

struct RopeShape {
  std::int64_t rows = 0;
  std::int32_t heads = 0;
  std::int32_t kv_heads = 0;
  std::int32_t head_dim = 0;      // multiple of 16, at most 256
  std::int32_t sections[3] = {};  // pairs that turn with T, H and W; {head_dim / 2, 0, 0} for text
  std::int32_t max_blocks = 0;    // width of the block table
  DType dtype = DType::kBf16;
  KvLayout layout;
};

// All in device memory.
struct RopeArgs {
  void* qkv = nullptr;          // [rows, heads + 2 kv_heads, head_dim], rows qkv_stride apart
  std::int64_t qkv_stride = 0;  // elements, multiple of 8
  const void* bias = nullptr;   // [heads + 2 kv_heads, head_dim] or null: round(x + bias) first
  const float* frequencies = nullptr;       // [head_dim / 2], 1 / theta^(2 i / head_dim)
  const std::int32_t* positions = nullptr;  // [rows, 3]
  void* keys = nullptr;                     // the layer's pools; null: no KV is written
  void* values = nullptr;
  const std::int32_t* block_table = nullptr;  // [lanes, max_blocks]
  const std::int32_t* row_lane = nullptr;     // [rows]; null: row r is lane r; -1: writes no KV
  const std::int32_t* row_index = nullptr;    // [rows], index of the token in its sequence
};

// k and v of the row are left rotated (biased) in qkv, too: a prefill reads them there. The angle
// is fp32 frequency * position; cosine and sine are of the accurate kind. bf16, fp16: cosine, sine,
// each product and each sum are rounded, as in the reference. A rotated value that overflows fp16
// is not a number.
cudaError_t rope_kv_write(const RopeShape& shape, const RopeArgs& args, const Launch& launch);

// Vision: rows of [q | k | v] with `heads` heads each; turns q and k in place, in fp32 with one
// rounding at the end; what overflows fp16 is not a number. cos, sin [rows, head_dim / 2] fp32.
cudaError_t rope_vision(DType dtype, void* qkv, std::int64_t qkv_stride, const float* cos,
                        const float* sin, std::int64_t rows, std::int32_t heads,
                        std::int32_t head_dim, const Launch& launch);

}  // namespace facet::kernels
