// Attention over packed rows of several sequences or images: libtorch's flash attention where it
// has a kernel for the dtype, the plain kernel of this tree otherwise (fp32).
#pragma once

#include <cstdint>

#include "kernels/attention/segment_attention.h"

namespace facet {

struct VarlenRows {
  std::int64_t query_rows = 0;  // of all segments
  std::int64_t key_rows = 0;
  std::int32_t max_key_rows = 0;  // of one segment
};

// As kernels::segment_attention(), with `out` dense: out_stride = heads * head_dim. Allocates its
// result and statistics from the torch arena while it runs: varlen_attention_bytes() of it.
// Throws CudaFailure or what libtorch throws. `stream` is the one that libtorch is set to.
void varlen_attention(const kernels::SegmentAttentionShape& shape,
                      const kernels::SegmentAttentionArgs& args, const VarlenRows& rows,
                      cudaStream_t stream);

// What libtorch takes for `query_rows` rows: output, log-sum-exp, and small change.
std::uint64_t varlen_attention_bytes(std::int64_t query_rows, std::int64_t heads,
                                     std::int64_t head_dim, std::int64_t segments);

}  // namespace facet
