// Keys and values of some sequences out of their blocks, one after the other as dense rows: what a
// prefill chunk with context before it attends to. Bound by bytes: each row read and written once.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/base/kv_layout.h"
#include "kernels/base/launch.h"

namespace facet::kernels {

struct KvGatherShape {
  std::int32_t sequences = 0;
  std::int32_t max_rows = 0;  // of one sequence
  std::int32_t kv_heads = 0;
  std::int32_t head_dim = 0;  // rows of a head are whole 16-byte words
  std::int32_t max_blocks = 0;
  DType dtype = DType::kBf16;
  KvLayout layout;
};

// All in device memory.
struct KvGatherArgs {
  const void* keys = nullptr;  // the layer's pools
  const void* values = nullptr;
  const std::int32_t* block_table = nullptr;  // [lanes, max_blocks]
  const std::int32_t* lanes = nullptr;        // [sequences]
  const std::int32_t* row_begin = nullptr;    // [sequences + 1]: sequence s fills rows [s] to [s+1]
  void* keys_out = nullptr;                   // [rows, kv_heads, head_dim]
  void* values_out = nullptr;
};

cudaError_t gather_kv(const KvGatherShape& shape, const KvGatherArgs& args, const Launch& launch);

}  // namespace facet::kernels
