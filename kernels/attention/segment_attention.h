// Attention inside segments of packed rows, plainly: one warp a query row and head, fp32 inside.
// For dtypes and head sizes that the fast kernels lack (fp32 above all). Bound by arithmetic; not
// for speed.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/base/launch.h"

namespace facet::kernels {

struct SegmentAttentionShape {
  std::int32_t segments = 0;
  std::int32_t max_query_rows = 0;  // of one segment
  std::int32_t heads = 0;           // a multiple of kv_heads
  std::int32_t kv_heads = 0;
  std::int32_t head_dim = 0;  // at most 256
  // Causal with the last query at the last key: query i of n sees keys 0 .. m - n + i.
  bool causal = false;
  float scale = 1.0F;
  DType dtype = DType::kFp32;
};

// All in device memory; strides in elements between rows.
struct SegmentAttentionArgs {
  const void* q = nullptr;  // [rows, heads, head_dim]
  const void* k = nullptr;  // [key rows, kv_heads, head_dim]
  const void* v = nullptr;
  std::int64_t q_stride = 0, k_stride = 0, v_stride = 0, out_stride = 0;
  const std::int32_t* query_begin = nullptr;  // [segments + 1]
  const std::int32_t* key_begin = nullptr;    // [segments + 1]
  void* out = nullptr;
};

cudaError_t segment_attention(const SegmentAttentionShape& shape, const SegmentAttentionArgs& args,
                              const Launch& launch);

}  // namespace facet::kernels
