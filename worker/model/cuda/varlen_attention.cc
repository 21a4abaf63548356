#include "worker/model/cuda/varlen_attention.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <ATen/ops/from_blob.h>

#include <optional>

#include "worker/model/cuda/cuda_error.h"

namespace facet {
namespace {

at::Tensor view(const void* data, at::IntArrayRef sizes, at::IntArrayRef strides,
                at::ScalarType type) {
  return at::from_blob(const_cast<void*>(data), sizes, strides,
                       at::TensorOptions().dtype(type).device(at::kCUDA));
}

}  // namespace

void varlen_attention(const kernels::SegmentAttentionShape& shape,
                      const kernels::SegmentAttentionArgs& args, const VarlenRows& rows,
                      cudaStream_t stream) {
  if (shape.dtype == kernels::DType::kFp32 || shape.head_dim % 8 != 0) {
    FACET_CUDA(kernels::segment_attention(shape, args, {stream}));
    return;
  }
  const at::ScalarType type = shape.dtype == kernels::DType::kBf16 ? at::kBFloat16 : at::kHalf;
  const std::int64_t dim = shape.head_dim;
  const at::Tensor q =
      view(args.q, {rows.query_rows, shape.heads, dim}, {args.q_stride, dim, 1}, type);
  const at::Tensor k =
      view(args.k, {rows.key_rows, shape.kv_heads, dim}, {args.k_stride, dim, 1}, type);
  const at::Tensor v =
      view(args.v, {rows.key_rows, shape.kv_heads, dim}, {args.v_stride, dim, 1}, type);
  const at::Tensor query_begin = view(args.query_begin, {shape.segments + 1}, {1}, at::kInt);
  const at::Tensor key_begin = view(args.key_begin, {shape.segments + 1}, {1}, at::kInt);
  const at::Tensor out = std::get<0>(at::_flash_attention_forward(
      q, k, v, query_begin, key_begin, shape.max_query_rows, rows.max_key_rows, 0.0, shape.causal,
      false, static_cast<double>(shape.scale)));
  FACET_CUDA(cudaMemcpyAsync(
      args.out, out.const_data_ptr(),
      static_cast<std::size_t>(rows.query_rows * shape.heads * dim) * kernels::size_of(shape.dtype),
      cudaMemcpyDeviceToDevice, stream));
}

std::uint64_t varlen_attention_bytes(std::int64_t query_rows, std::int64_t heads,
                                     std::int64_t head_dim, std::int64_t segments) {
  constexpr std::int64_t kSmallChange = 1 << 20;  // random state, rounding of each block
  // The statistics are padded by up to 128 rows a segment.
  const std::int64_t statistics = heads * (query_rows + 128 * segments) * 4;
  return static_cast<std::uint64_t>(query_rows * heads * head_dim * 2 + statistics + kSmallChange);
}

}  // namespace facet
