// Matrix products with weights that are laid out once for the kernels, and attention over keys and
// values in panels. A value depends on its own row and column alone, in a fixed order of sums: not
// on how many rows, chunks or images are computed together, nor on the number of threads.
// T is float or Bf16; sums are in fp32 and rounded to T once.
#pragma once

#include <cstdint>

#include "worker/engine/host_layout.h"
#include "worker/model/host_float.h"

namespace facet {

// out[rows, columns] = x w^T + bias.
template <class T>
struct GemmTask {
  const T* x = nullptr;  // [rows, depth], x_stride values from row to row
  std::int64_t x_stride = 0;
  const T* panels = nullptr;  // [padded columns / kPanel, depth, kPanel], see WeightLoader
  const T* bias = nullptr;    // [columns], or null
  T* out = nullptr;
  std::int64_t out_stride = 0;
  std::int64_t depth = 0;
  std::int64_t columns = 0;
};

// Keys and values of one head in panels of kPanel tokens: keys [dim, kPanel] with key_step values
// from dim to dim, values [kPanel, padded_dim] with value_step values from token to token.
template <class T>
struct KvPanels {
  const T* keys = nullptr;
  const T* values = nullptr;
  const std::int32_t* blocks = nullptr;  // in order; null: blocks follow one another
  std::int64_t panels_per_block = 1;
  std::int64_t block_stride = 0;  // values, for keys and values alike
  std::int64_t key_step = kPanel;
  std::int64_t value_step = 0;

  std::int64_t block(std::int64_t panel) const {
    const std::int64_t index = panel / panels_per_block;
    return (blocks == nullptr ? index : blocks[index]) * block_stride;
  }
  const T* key_panel(std::int64_t panel) const {
    return keys + block(panel) + panel % panels_per_block * kPanel;
  }
  const T* value_panel(std::int64_t panel) const {
    return values + block(panel) + panel % panels_per_block * kPanel * value_step;
  }
};

// Query row i * group + g is head g of token i: `group` heads share the keys.
template <class T>
struct AttentionTask {
  const T* q = nullptr;  // of token 0, head 0; heads lie dim apart
  std::int64_t q_stride = 0;
  T* out = nullptr;
  std::int64_t out_stride = 0;
  std::int64_t group = 1;
  std::int64_t dim = 0;
  float scale = 1.0F;
  KvPanels<T> kv;
  std::int64_t visible = 0;  // tokens that token 0 sees
  bool causal = false;       // token i sees i more
};

template <class T>
struct HostGemm {
  // Rows [first_row, last_row) of the panels of columns [first_panel, last_panel).
  void (*multiply)(const GemmTask<T>& task, std::int64_t first_row, std::int64_t last_row,
                   std::int64_t first_panel, std::int64_t last_panel, float* scratch);
  // Query rows [first, last).
  void (*attend)(const AttentionTask<T>& task, std::int64_t first, std::int64_t last,
                 float* scratch);
};

// The fastest variant that this CPU runs.
template <class T>
const HostGemm<T>& host_gemm();

}  // namespace facet
