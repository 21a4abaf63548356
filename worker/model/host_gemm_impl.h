// Bodies of host_gemm.h, compiled once per instruction set (host_ops_*.cc).
#pragma once

#include <algorithm>
#include <limits>

#include "worker/model/host_gemm.h"
#include "worker/model/host_ops_impl.h"
#include "worker/model/host_simd.h"

namespace facet {
namespace {

using TileSums = Lanes[kTileRows][kTilePanels];

static_assert(kTileRows <= kMaxTileRows);

// Rows of the tiles that `rows` are cut into: nearly equal, since short tiles are slow ones.
inline std::int64_t tile_rows(std::int64_t rows) {
  const std::int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  return (rows + tiles - 1) / tiles;
}

template <class T>
inline void store_tile(const GemmTask<T>& task, const TileSums& sums, std::int64_t row, int rows,
                       std::int64_t panel, int panels) {
  for (int p = 0; p < panels; ++p) {
    const std::int64_t column = (panel + p) * kPanel;
    const std::int64_t count = std::min(kPanel, task.columns - column);
    float bias[kPanel] = {};
    if (task.bias != nullptr)
      for (std::int64_t i = 0; i < count; ++i) bias[i] = load(task.bias[column + i]);
    for (int r = 0; r < rows; ++r) {
      float values[kPanel];
      lanes_store(values, sums[r][p]);
      T* out = task.out + (row + r) * task.out_stride + column;
      if (count == kPanel) {
        for (std::int64_t i = 0; i < kPanel; ++i) out[i] = store<T>(values[i] + bias[i]);
      } else {
        for (std::int64_t i = 0; i < count; ++i) out[i] = store<T>(values[i] + bias[i]);
      }
    }
  }
}

// Copies rows as floats, kGemmPad apart: rows a power of two apart would fight for the same lines
// of the cache.
template <class T>
inline void copy_rows(const GemmTask<T>& task, std::int64_t row, std::int64_t rows, float* to) {
  for (std::int64_t r = 0; r < rows; ++r, to += task.depth + kGemmPad) {
    const T* from = task.x + (row + r) * task.x_stride;
    for (std::int64_t k = 0; k < task.depth; ++k) to[k] = load(from[k]);
  }
}

template <class T>
void gemm(const GemmTask<T>& task, std::int64_t first_row, std::int64_t last_row,
          std::int64_t first_panel, std::int64_t last_panel, float* scratch) {
  for (std::int64_t block = first_row; block < last_row; block += kGemmRowBlock) {
    const std::int64_t rows = std::min(kGemmRowBlock, last_row - block);
    const std::int64_t step = tile_rows(rows);
    const std::int64_t stride = task.depth + kGemmPad;
    copy_rows(task, block, rows, scratch);
    for (std::int64_t panel = first_panel; panel < last_panel; panel += kTilePanels) {
      const auto panels = static_cast<int>(std::min<std::int64_t>(kTilePanels, last_panel - panel));
      const T* weights[kTilePanels];
      for (int p = 0; p < kTilePanels; ++p)
        weights[p] = task.panels + (panel + (p < panels ? p : 0)) * task.depth * kPanel;
      for (std::int64_t row = 0; row < rows; row += step) {
        const auto count = static_cast<int>(std::min(step, rows - row));
        TileSums sums;
        for (auto& line : sums)
          for (Lanes& sum : line) sum = lanes_zero();
        tile_multiply_any(count, panels, scratch + row * stride, stride, weights, kPanel,
                          task.depth, sums);
        store_tile(task, sums, block + row, count, panel, panels);
      }
    }
  }
}

// What a tile of query rows has gathered from the keys so far.
struct TileState {
  float* q;       // [rows, dim], scaled
  float* scores;  // [rows, kKeyTile]
  float* out;     // [rows, padded_dim], not yet divided by `total`
  float top[kTileRows];
  float total[kTileRows];
  std::int64_t visible[kTileRows];
};

template <class T>
inline void tile_scores(const AttentionTask<T>& task, int rows, std::int64_t first_panel,
                        std::int64_t num_panels, TileState& state) {
  for (std::int64_t at = 0; at < num_panels; at += kTilePanels) {
    const auto panels = static_cast<int>(std::min<std::int64_t>(kTilePanels, num_panels - at));
    const T* keys[kTilePanels];
    for (int p = 0; p < kTilePanels; ++p)
      keys[p] = task.kv.key_panel(first_panel + at + (p < panels ? p : 0));
    TileSums sums;
    for (auto& line : sums)
      for (Lanes& sum : line) sum = lanes_zero();
    tile_multiply_any(rows, panels, state.q, task.dim, keys, task.kv.key_step, task.dim, sums);
    for (int r = 0; r < rows; ++r)
      for (int p = 0; p < panels; ++p)
        lanes_store(state.scores + r * kKeyTile + (at + p) * kPanel, sums[r][p]);
  }
}

// scores -> exp(scores - top), 0 for what the row does not see; what was gathered is scaled to the
// new top. `seen` of the tile's keys are visible to the row, `width` is a whole number of panels.
inline void tile_softmax(float* scores, std::int64_t seen, std::int64_t width, float& top,
                         float& total, float* out, std::int64_t padded_dim) {
  if (seen <= 0) {
    std::fill(scores, scores + width, 0.0F);
    return;
  }
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  std::fill(scores + std::min(seen, width), scores + width, kLowest);
  float tops[kPanel];
  std::copy(scores, scores + kPanel, tops);
  for (std::int64_t i = kPanel; i < width; i += kPanel)
    for (std::int64_t lane = 0; lane < kPanel; ++lane)
      tops[lane] = std::max(tops[lane], scores[i + lane]);
  float highest = top;
  for (const float lane : tops) highest = std::max(highest, lane);
  float sums[kPanel] = {};
  for (std::int64_t i = 0; i < width; i += kPanel)
    for (std::int64_t lane = 0; lane < kPanel; ++lane) {
      const float score = scores[i + lane];
      // The least that fast_exp() gives is not 0.
      const float e = score == kLowest ? 0.0F : fast_exp(score - highest);
      scores[i + lane] = e;
      sums[lane] += e;
    }
  float sum = 0.0F;
  for (const float lane : sums) sum += lane;
  if (top == kLowest) {
    total = sum;
  } else if (highest > top) {
    const float shrink = fast_exp(top - highest);
    total = total * shrink + sum;
    for (std::int64_t i = 0; i < padded_dim; ++i) out[i] *= shrink;
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
inline void tile_values(const AttentionTask<T>& task, int rows, std::int64_t first_panel,
                        std::int64_t tokens, TileState& state) {
  const std::int64_t padded = padded_to_panel(task.dim);
  for (std::int64_t column = 0; column < padded; column += kTilePanels * kPanel) {
    const auto panels =
        static_cast<int>(std::min<std::int64_t>(kTilePanels, (padded - column) / kPanel));
    TileSums sums;
    for (int r = 0; r < rows; ++r)
      for (int p = 0; p < panels; ++p)
        sums[r][p] = lanes_load(state.out + r * padded + column + p * kPanel);
    for (std::int64_t at = 0; at < tokens;) {
      const T* from = task.kv.value_panel(first_panel + at / kPanel) + column;
      const std::int64_t run = value_run(task.kv, first_panel + at / kPanel, tokens - at);
      const T* values[kTilePanels];
      for (int p = 0; p < kTilePanels; ++p) values[p] = from + (p < panels ? p : 0) * kPanel;
      tile_multiply_any(rows, panels, state.scores + at, kKeyTile, values, task.kv.value_step, run,
                        sums);
      at += run;
    }
    for (int r = 0; r < rows; ++r)
      for (int p = 0; p < panels; ++p)
        lanes_store(state.out + r * padded + column + p * kPanel, sums[r][p]);
  }
}

template <class T>
void attend_tile(const AttentionTask<T>& task, std::int64_t first, int rows, float* scratch) {
  const std::int64_t padded = padded_to_panel(task.dim);
  TileState state;
  state.q = scratch;
  state.scores = state.q + kTileRows * padded;
  state.out = state.scores + kTileRows * kKeyTile;
  std::int64_t most = 0;
  for (int r = 0; r < rows; ++r) {
    const std::int64_t token = (first + r) / task.group;
    const T* q = task.q + token * task.q_stride + (first + r) % task.group * task.dim;
    for (std::int64_t i = 0; i < task.dim; ++i) state.q[r * task.dim + i] = load(q[i]) * task.scale;
    std::fill(state.out + r * padded, state.out + (r + 1) * padded, 0.0F);
    state.top[r] = -std::numeric_limits<float>::infinity();
    state.total[r] = 0.0F;
    state.visible[r] = task.visible + (task.causal ? token : 0);
    most = std::max(most, state.visible[r]);
  }
  for (std::int64_t key = 0; key < most; key += kKeyTile) {
    const std::int64_t tokens = std::min(kKeyTile, most - key);
    const std::int64_t width = padded_to_panel(tokens);
    tile_scores(task, rows, key / kPanel, width / kPanel, state);
    for (int r = 0; r < rows; ++r)
      tile_softmax(state.scores + r * kKeyTile, state.visible[r] - key, width, state.top[r],
                   state.total[r], state.out + r * padded, padded);
    tile_values(task, rows, key / kPanel, tokens, state);
  }
  for (int r = 0; r < rows; ++r) {
    const std::int64_t token = (first + r) / task.group;
    T* out = task.out + token * task.out_stride + (first + r) % task.group * task.dim;
    const float scale = 1.0F / state.total[r];
    for (std::int64_t i = 0; i < task.dim; ++i)
      out[i] = store<T>(state.out[r * padded + i] * scale);
  }
}

template <class T>
void attend_rows(const AttentionTask<T>& task, std::int64_t first, std::int64_t last,
                 float* scratch) {
  const std::int64_t step = tile_rows(std::max<std::int64_t>(1, last - first));
  for (std::int64_t row = first; row < last; row += step)
    attend_tile(task, row, static_cast<int>(std::min(step, last - row)), scratch);
}

template <class T>
constexpr HostGemm<T> kGemm{gemm<T>, attend_rows<T>};

}  // namespace
}  // namespace facet
