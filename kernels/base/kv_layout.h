// How keys and values lie in the paged pool.
#pragma once

#include <cstdint>

namespace facet::kernels {

inline constexpr int kKvBlockTokens = 16;

// Where key (or value) d of KV head h at place t of block b lies:
//   pool + b * block_stride + t * token_stride + h * head_stride + d, all in elements.
// [blocks, tokens, heads, dim] and [blocks, heads, tokens, dim] both fit; in the second the 16
// tokens of a head are one run of memory. Strides are multiples of 16 bytes.
struct KvLayout {
  std::int64_t block_stride = 0;
  std::int64_t token_stride = 0;
  std::int64_t head_stride = 0;
};

}  // namespace facet::kernels
