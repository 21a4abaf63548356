// Bodies of host_gemm.h, compiled once per instruction set (host_ops_*.cc).
#pragma once

#include <algorithm>
#include <limits>

#include "worker/model/host_gemm.h"
#include "worker/model/host_ops_impl.h"
#include "worker/model/host_simd.h"

namespace facet {
namespace {

static_assert(kTileRows <= kMaxTileRows && kAttentionRows % kTileRows == 0);

// Rows of the tiles that `rows` are cut into: nearly equal, since short tiles are slow ones.
inline std::int64_t tile_rows(std::int64_t rows) {
  const std::int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  return (rows + tiles - 1) / tiles;
}

// Rows this many floats apart, or a multiple of it, would fight for the same lines of the cache.
constexpr std::int64_t kBadStride = 256;

// Rows as floats that can be read together: those of x themselves, or copied kGemmPad apart.
template <class T>
inline const float* readable_rows(const GemmTask<T>& task, std::int64_t row, std::int64_t rows,
                                  float* scratch, std::int64_t& stride) {
  if constexpr (sizeof(T) == sizeof(float)) {
    if (task.x_stride % kBadStride != 0) {
      stride = task.x_stride;
      return task.x + row * stride;
    }
  }
  stride = task.depth + kGemmPad;
  for (std::int64_t r = 0; r < rows; ++r) {
    const T* from = task.x + (row + r) * task.x_stride;
    float* to = scratch + r * stride;
    for (std::int64_t k = 0; k < task.depth; ++k) to[k] = load(from[k]);
  }
  return scratch;
}

// Where the sums of a tile go, with their bias.
template <class T>
struct StoreTile {
  T* out;
  std::int64_t stride;
  Lanes bias[kTilePanels];

  FACET_INLINE void operator()(int r, int p, Lanes sum) const {
    lanes_store(out + r * stride + p * kPanel, lanes_add(sum, bias[p]));
  }
};

struct StartAtZero {
  FACET_INLINE Lanes operator()(int, int) const { return lanes_zero(); }
};

struct StoreSums {
  float* to;
  std::int64_t stride;
  FACET_INLINE void operator()(int r, int p, Lanes sum) const {
    lanes_store(to + r * stride + p * kPanel, sum);
  }
};

struct LoadSums {
  const float* from;
  std::int64_t stride;
  FACET_INLINE Lanes operator()(int r, int p) const {
    return lanes_load(from + r * stride + p * kPanel);
  }
};

template <class T>
struct GemmBlock {
  const GemmTask<T>& task;
  const float* x;  // `rows` rows, x_stride apart
  std::int64_t x_stride;
  std::int64_t first_row;  // in the task
  std::int64_t rows;
};

// The block's rows of these panels. The first tile reads its weights from far away: it fetches the
// next panels', too.
template <class T>
inline void multiply_panels(const GemmBlock<T>& block, std::int64_t panel, int panels) {
  const GemmTask<T>& task = block.task;
  const std::int64_t panel_values = task.depth * kPanel;
  const std::int64_t column = panel * kPanel;
  const std::int64_t columns = std::min(panels * kPanel, task.columns - column);
  const bool whole = columns == panels * kPanel;
  T partial[kTileRows * kTilePanels * kPanel];
  const T* weights[kTilePanels];
  StoreTile<T> end;
  end.stride = whole ? task.out_stride : kTilePanels * kPanel;
  for (int p = 0; p < kTilePanels; ++p) {
    const bool used = p < panels;
    weights[p] = task.panels + (panel + (used ? p : 0)) * panel_values;
    end.bias[p] =
        task.bias == nullptr || !used
            ? lanes_zero()
            : lanes_load(task.bias + column + p * kPanel, std::min(kPanel, columns - p * kPanel));
  }
  const std::int64_t step = tile_rows(block.rows);
  for (std::int64_t row = 0; row < block.rows; row += step) {
    const auto count = static_cast<int>(std::min(step, block.rows - row));
    T* out = task.out + (block.first_row + row) * task.out_stride + column;
    end.out = whole ? out : partial;
    const float* x = block.x + row * block.x_stride;
    if (row == 0)
      tile_multiply_any<true>(count, panels, x, block.x_stride, weights, kPanel, task.depth,
                              kTilePanels * panel_values, StartAtZero(), end);
    else
      tile_multiply_any<false>(count, panels, x, block.x_stride, weights, kPanel, task.depth, 0,
                               StartAtZero(), end);
    for (int r = 0; r < count && !whole; ++r)
      std::copy_n(partial + r * kTilePanels * kPanel, columns, out + r * task.out_stride);
  }
}

template <class T>
void gemm(const GemmTask<T>& task, std::int64_t first_row, std::int64_t last_row,
          std::int64_t first_panel, std::int64_t last_panel, float* scratch) {
  for (std::int64_t row = first_row; row < last_row; row += kGemmRowBlock) {
    const std::int64_t rows = std::min(kGemmRowBlock, last_row - row);
    GemmBlock<T> block{task, nullptr, 0, row, rows};
    block.x = readable_rows(task, row, rows, scratch, block.x_stride);
    for (std::int64_t panel = first_panel; panel < last_panel; panel += kTilePanels)
      multiply_panels(block, panel,
                      static_cast<int>(std::min<std::int64_t>(kTilePanels, last_panel - panel)));
  }
}

// A tile of query rows and what it has gathered from the keys so far.
struct TileState {
  std::int64_t first;  // of the rows
  int rows;
  std::int64_t most;  // keys that a row sees at most
  float* q;           // [rows, dim], scaled
  float* scores;      // [rows, kKeyTile], of all tiles in turn
  float* out;         // [rows, padded_dim], not yet divided by `total`
  float top[kTileRows];
  float total[kTileRows];
  std::int64_t visible[kTileRows];
};

template <class T>
inline void tile_scores(const AttentionTask<T>& task, std::int64_t first_panel,
                        std::int64_t num_panels, TileState& state) {
  for (std::int64_t at = 0; at < num_panels; at += kTilePanels) {
    const auto panels = static_cast<int>(std::min<std::int64_t>(kTilePanels, num_panels - at));
    const T* keys[kTilePanels];
    for (int p = 0; p < kTilePanels; ++p)
      keys[p] = task.kv.key_panel(first_panel + at + (p < panels ? p : 0));
    float* scores = state.scores + at * kPanel;
    tile_multiply_any<false>(state.rows, panels, state.q, task.dim, keys, task.kv.key_step,
                             task.dim, 0, StartAtZero(), StoreSums{scores, kKeyTile});
  }
}

constexpr float kLowest = -std::numeric_limits<float>::infinity();

// scores -> exp(scores - top), 0 for what the row does not see; what was gathered is scaled to the
// new top. `seen` of the tile's keys are visible to the row, `width` is a whole number of panels.
inline void tile_softmax(float* scores, std::int64_t seen, std::int64_t width, float& top,
                         float& total, float* out, std::int64_t padded_dim) {
  if (seen <= 0) {
    std::fill(scores, scores + width, 0.0F);
    return;
  }
  std::fill(scores + std::min(seen, width), scores + width, kLowest);
  Lanes tops = lanes_all(top);
  for (std::int64_t i = 0; i < width; i += kPanel) tops = lanes_max(lanes_load(scores + i), tops);
  const float highest = lanes_highest(tops);
  const Lanes shift = lanes_all(highest);
  Lanes sums = lanes_zero();
  for (std::int64_t i = 0; i < width; i += kPanel) {
    const Lanes score = lanes_load(scores + i);
    // The least that lanes_exp() gives is not 0.
    const Lanes e = lanes_zero_where_lowest(score, lanes_exp(lanes_sub(score, shift)));
    lanes_store(scores + i, e);
    sums = lanes_add(sums, e);
  }
  const float sum = lanes_sum(sums);
  if (top == kLowest) {
    total = sum;
  } else if (highest > top) {
    const Lanes shrink = lanes_exp(lanes_all(top - highest));
    float factor[kPanel];
    lanes_store(factor, shrink);
    total = total * factor[0] + sum;
    for (std::int64_t i = 0; i < padded_dim; i += kPanel)
      lanes_store(out + i, lanes_mul(lanes_load(out + i), shrink));
  } else {
    total += sum;
  }
  top = highest;
}

// Tokens from the panel on whose values follow one another, `most` at most.
template <class T>
inline std::int64_t value_run(const KvPanels<T>& kv, std::int64_t panel, std::int64_t most) {
  std::int64_t run = kPanel;
  const T* next = kv.value_panel(panel) + kPanel * kv.value_step;
  while (run < most && kv.value_panel(++panel) == next) {
    run += kPanel;
    next += kPanel * kv.value_step;
  }
  return std::min(run, most);
}

template <class T>
inline void tile_values(const AttentionTask<T>& task, std::int64_t first_panel, std::int64_t tokens,
                        TileState& state) {
  const std::int64_t padded = padded_to_panel(task.dim);
  for (std::int64_t column = 0; column < padded; column += kTilePanels * kPanel) {
    const auto panels =
        static_cast<int>(std::min<std::int64_t>(kTilePanels, (padded - column) / kPanel));
    for (std::int64_t at = 0; at < tokens;) {
      const T* from = task.kv.value_panel(first_panel + at / kPanel) + column;
      const std::int64_t run = value_run(task.kv, first_panel + at / kPanel, tokens - at);
      const T* values[kTilePanels];
      for (int p = 0; p < kTilePanels; ++p) values[p] = from + (p < panels ? p : 0) * kPanel;
      float* out = state.out + column;
      tile_multiply_any<false>(state.rows, panels, state.scores + at, kKeyTile, values,
                               task.kv.value_step, run, 0, LoadSums{out, padded},
                               StoreSums{out, padded});
      at += run;
    }
  }
}

template <class T>
inline void begin_tile(const AttentionTask<T>& task, TileState& state) {
  const std::int64_t padded = padded_to_panel(task.dim);
  state.most = 0;
  for (int r = 0; r < state.rows; ++r) {
    const std::int64_t token = (state.first + r) / task.group;
    const std::int64_t head = (state.first + r) % task.group;
    const T* q = task.q + token * task.q_stride + head * task.dim;
    for (std::int64_t i = 0; i < task.dim; ++i) state.q[r * task.dim + i] = load(q[i]) * task.scale;
    std::fill(state.out + r * padded, state.out + (r + 1) * padded, 0.0F);
    state.top[r] = kLowest;
    state.total[r] = 0.0F;
    state.visible[r] = task.visible + (task.causal ? token : 0);
    state.most = std::max(state.most, state.visible[r]);
  }
}

// Keys [key, key + kKeyTile), as far as the tile sees them.
template <class T>
inline void attend_keys(const AttentionTask<T>& task, std::int64_t key, TileState& state) {
  if (key >= state.most) return;
  const std::int64_t padded = padded_to_panel(task.dim);
  const std::int64_t tokens = std::min(kKeyTile, state.most - key);
  const std::int64_t width = padded_to_panel(tokens);
  tile_scores(task, key / kPanel, width / kPanel, state);
  for (int r = 0; r < state.rows; ++r)
    tile_softmax(state.scores + r * kKeyTile, state.visible[r] - key, width, state.top[r],
                 state.total[r], state.out + r * padded, padded);
  tile_values(task, key / kPanel, tokens, state);
}

template <class T>
inline void end_tile(const AttentionTask<T>& task, const TileState& state) {
  const std::int64_t padded = padded_to_panel(task.dim);
  for (int r = 0; r < state.rows; ++r) {
    const std::int64_t token = (state.first + r) / task.group;
    const std::int64_t head = (state.first + r) % task.group;
    T* out = task.out + token * task.out_stride + head * task.dim;
    const float scale = 1.0F / state.total[r];
    for (std::int64_t i = 0; i < task.dim; ++i)
      out[i] = store<T>(state.out[r * padded + i] * scale);
  }
}

// At most kAttentionRows rows.
template <class T>
void attend_block(const AttentionTask<T>& task, std::int64_t first, std::int64_t last,
                  float* scratch) {
  const std::int64_t padded = padded_to_panel(task.dim);
  const std::int64_t step = tile_rows(last - first);
  TileState tiles[kAttentionRows / kTileRows];
  int count = 0;
  std::int64_t most = 0;
  for (std::int64_t row = first; row < last; row += step) {
    TileState& tile = tiles[count++];
    tile.first = row;
    tile.rows = static_cast<int>(std::min(step, last - row));
    tile.scores = scratch;
    tile.q = scratch + kMaxTileRows * kKeyTile + 2 * (row - first) * padded;
    tile.out = tile.q + step * padded;
    begin_tile(task, tile);
    most = std::max(most, tile.most);
  }
  for (std::int64_t key = 0; key < most; key += kKeyTile)
    for (int i = 0; i < count; ++i) attend_keys(task, key, tiles[i]);
  for (int i = 0; i < count; ++i) end_tile(task, tiles[i]);
}

template <class T>
void attend_rows(const AttentionTask<T>& task, std::int64_t first, std::int64_t last,
                 float* scratch) {
  for (std::int64_t row = first; row < last; row += kAttentionRows)
    attend_block(task, row, std::min(last, row + kAttentionRows), scratch);
}

template <class T>
constexpr HostGemm<T> kGemm{gemm<T>, attend_rows<T>};

}  // namespace
}  // namespace facet
