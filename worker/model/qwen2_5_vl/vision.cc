#include "worker/model/qwen2_5_vl/vision.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <type_traits>

#include "common/base/check.h"

namespace facet {
namespace {

constexpr auto kEps = static_cast<float>(QwenVisionConfig::kRmsNormEps);

}  // namespace

// The order of the pieces is that of cpu_memory.cc.
template <class T>
QwenVision<T>::QwenVision(const QwenConfig& config, const CpuLimits& limits,
                          WeightLoader<T> weights, HostArena& arena, const Scratch& scratch)
    : config_(config.vision),
      capacity_(vision_pass_patches(config, limits)),
      scratch_(scratch),
      rope_(config.vision, vision_max_side(config, limits), arena) {
  load(weights);
  const std::int64_t rows = capacity_;
  values_ = arena.take<float>(rows * config_.patch_values());
  hidden_ = arena.take<T>(rows * config_.hidden_size);
  normed_ = arena.take<T>(rows * config_.hidden_size);
  attended_ = arena.take<T>(rows * config_.hidden_size);
  qkv_ = arena.take<T>(rows * 3 * config_.hidden_size);
  gate_up_ = arena.take<T>(rows * 2 * config_.intermediate_size);
  inner_ = arena.take<T>(rows * config_.intermediate_size);
  merged_ = arena.take<T>(rows / config_.merge_unit() * config_.out_hidden_size);
  cos_ = arena.take<float>(rows * (config_.head_dim() / 2));
  sin_ = arena.take<float>(rows * (config_.head_dim() / 2));
  const std::int64_t panels = rows * config_.num_heads * padded_to_panel(config_.head_dim());
  keys_ = arena.take<T>(panels);
  head_values_ = arena.take<T>(panels);
  // As many as there can be, so that no pass makes them grow: a window has one cell at least.
  const auto cells = static_cast<std::size_t>(rows / config_.merge_unit());
  images_.reserve(cells);
  windows_.reserve(cells);
  layout_.cell_order.reserve(cells);
  layout_.window_patches.reserve(cells);
  layout_.rows.reserve(static_cast<std::size_t>(rows));
  layout_.columns.reserve(static_cast<std::size_t>(rows));
}

template <class T>
void QwenVision<T>::load(WeightLoader<T>& weights) {
  const std::string model = "model.visual.";
  patch_ = weights.linear({model + "patch_embed.proj.weight"}, {});
  for (std::int64_t i = 0; i < config_.depth; ++i) {
    const std::string name = model + "blocks." + std::to_string(i) + ".";
    const std::string mlp = name + "mlp.";
    LayerWeights<T> block;
    block.norm1 = weights.values(name + "norm1.weight");
    block.norm2 = weights.values(name + "norm2.weight");
    block.qkv = weights.linear({name + "attn.qkv.weight"}, {name + "attn.qkv.bias"});
    block.o = weights.linear({name + "attn.proj.weight"}, {name + "attn.proj.bias"});
    block.gate_up = weights.linear({mlp + "gate_proj.weight", mlp + "up_proj.weight"},
                                   {mlp + "gate_proj.bias", mlp + "up_proj.bias"});
    block.down = weights.linear({mlp + "down_proj.weight"}, {mlp + "down_proj.bias"});
    blocks_.push_back(block);
  }
  merger_norm_ = weights.values(model + "merger.ln_q.weight");
  merger0_ = weights.linear({model + "merger.mlp.0.weight"}, {model + "merger.mlp.0.bias"});
  merger2_ = weights.linear({model + "merger.mlp.2.weight"}, {model + "merger.mlp.2.bias"});
}

template <class T>
void QwenVision<T>::begin() {
  images_.clear();
  total_ = 0;
  panels_ = 0;
}

template <class T>
float* QwenVision<T>::add(std::int32_t grid_height, std::int32_t grid_width, T* out) {
  const std::int64_t patches = std::int64_t{grid_height} * grid_width;
  const std::int64_t panels = padded_to_panel(patches) / kPanel;
  if ((panels_ + panels) * kPanel > capacity_) {
    FACET_CHECK(!images_.empty());  // larger images than planned are refused before
    return nullptr;
  }
  images_.push_back({grid_height, grid_width, out, total_, panels_});
  total_ += patches;
  panels_ += panels;
  return values_ + images_.back().first * config_.patch_values();
}

template <class T>
void QwenVision<T>::drop_last() {
  total_ = images_.back().first;
  panels_ = images_.back().first_panel;
  images_.pop_back();
}

template <class T>
void QwenVision<T>::lay_out() {
  layout_.cell_order.clear();
  layout_.window_patches.clear();
  layout_.rows.clear();
  layout_.columns.clear();
  for (const Image& image : images_)
    append_vision_layout(config_, image.grid_height, image.grid_width, layout_);
  windows_.clear();
  std::int64_t first = 0;
  for (const std::int64_t count : layout_.window_patches) {
    windows_.push_back({first, count});
    first += count;
  }
  FACET_CHECK(first == total_);
  rope_.fill(layout_.rows, layout_.columns, cos_, sin_);
}

// Patches come with the values of the file's order (C, T, height, width) and leave in window order.
template <class T>
void QwenVision<T>::embed_patches() {
  T* values = reinterpret_cast<T*>(values_);
  if constexpr (!std::is_same_v<T, float>) {
    for (std::int64_t i = 0; i < total_ * config_.patch_values(); ++i) {
      float value;  // in place: what is written is narrower than what was read
      std::memcpy(&value, reinterpret_cast<const char*>(values_) + i * 4, sizeof value);
      values[i] = to_bf16(value);
    }
  }
  parallel_linear(patch_, values, normed_, total_, scratch_);
  const std::int64_t cell = config_.merge_unit() * config_.hidden_size;
  for (std::size_t i = 0; i < layout_.cell_order.size(); ++i)
    std::copy_n(normed_ + layout_.cell_order[i] * cell, cell,
                hidden_ + static_cast<std::int64_t>(i) * cell);
}

template <class T>
AttentionTask<T> QwenVision<T>::task_of(const Window& window, std::int64_t head,
                                        const KvPanels<T>& kv) const {
  AttentionTask<T> task;
  task.dim = config_.head_dim();
  task.q_stride = 3 * config_.hidden_size;
  task.q = qkv_ + window.first * task.q_stride + head * task.dim;
  task.out_stride = config_.hidden_size;
  task.out = attended_ + window.first * task.out_stride + head * task.dim;
  task.scale = 1.0F / std::sqrt(static_cast<float>(task.dim));
  task.kv = kv;
  task.kv.block_stride = kPanel * padded_to_panel(task.dim);
  task.kv.value_step = padded_to_panel(task.dim);
  task.visible = window.count;
  return task;
}

// Rows [first_row, first_row + rows) of a window, a whole number of panels but for the last.
template <class T>
void QwenVision<T>::fill_panels(const Window& window, std::int64_t first_row, std::int64_t rows,
                                std::int64_t head, T* keys, T* values) const {
  const std::int64_t dim = config_.head_dim();
  const std::int64_t padded = padded_to_panel(dim);
  const std::int64_t stride = 3 * config_.hidden_size;
  const T* from = qkv_ + (window.first + first_row) * stride + config_.hidden_size + head * dim;
  for (std::int64_t row = 0; row < rows; ++row, from += stride) {
    T* key = keys + row / kPanel * kPanel * padded + row % kPanel;
    for (std::int64_t i = 0; i < dim; ++i) key[i * kPanel] = from[i];
    T* value = std::copy_n(from + config_.hidden_size, dim, values + row * padded);
    std::fill_n(value, padded - dim, T{});
  }
}

template <class T>
void QwenVision<T>::attend_windows() {
  const std::int64_t heads = config_.num_heads;
  const auto body = host_gemm<T>().attend;
  const auto count = static_cast<std::int64_t>(windows_.size()) * heads;
  parallel_ranges(count, 4, [&](std::int64_t begin, std::int64_t end, int thread) {
    float* scratch = scratch_.of(thread);
    T* keys = reinterpret_cast<T*>(scratch + attention_scratch(config_.head_dim()));
    for (std::int64_t i = begin; i < end; ++i) {
      const Window& window = windows_[static_cast<std::size_t>(i / heads)];
      T* values = keys + padded_to_panel(window.count) * padded_to_panel(config_.head_dim());
      fill_panels(window, 0, window.count, i % heads, keys, values);
      KvPanels<T> kv;
      kv.keys = keys;
      kv.values = values;
      body(task_of(window, i % heads, kv), 0, window.count, scratch);
    }
  });
}

// Keys and values of all heads are laid out first, then shared by tiles of query rows.
template <class T>
void QwenVision<T>::attend_images() {
  constexpr std::int64_t kPanelsAtOnce = 16;
  const std::int64_t panel_values = kPanel * padded_to_panel(config_.head_dim());
  const auto body = host_gemm<T>().attend;
  for (const Image& image : images_) {
    const Window window{image.first, std::int64_t{image.grid_height} * image.grid_width};
    const std::int64_t pieces =
        (window.count + kPanelsAtOnce * kPanel - 1) / (kPanelsAtOnce * kPanel);
    const auto panels_of = [&](T* all, std::int64_t head) {
      return all + (head * (capacity_ / kPanel) + image.first_panel) * panel_values;
    };
    parallel_items(pieces * config_.num_heads, [&](std::int64_t i, int) {
      const std::int64_t head = i % config_.num_heads;
      const std::int64_t panel = i / config_.num_heads * kPanelsAtOnce;
      const std::int64_t rows = std::min(kPanelsAtOnce * kPanel, window.count - panel * kPanel);
      fill_panels(window, panel * kPanel, rows, head, panels_of(keys_, head) + panel * panel_values,
                  panels_of(head_values_, head) + panel * panel_values);
    });
    const std::int64_t tiles = (window.count + kAttentionRows - 1) / kAttentionRows;
    parallel_items(tiles * config_.num_heads, [&](std::int64_t i, int thread) {
      const std::int64_t head = i / tiles;
      KvPanels<T> kv;
      kv.keys = panels_of(keys_, head);
      kv.values = panels_of(head_values_, head);
      const std::int64_t first = i % tiles * kAttentionRows;
      body(task_of(window, head, kv), first, std::min(first + kAttentionRows, window.count),
           scratch_.of(thread));
    });
  }
}

template <class T>
LayerRows<T> QwenVision<T>::layer_rows() const {
  LayerRows<T> rows;
  rows.count = total_;
  rows.capacity = capacity_;
  rows.hidden = hidden_;
  rows.normed = normed_;
  rows.qkv = qkv_;
  rows.attended = attended_;
  rows.gate_up = gate_up_;
  rows.inner = inner_;
  rows.cos = cos_;
  rows.sin = sin_;
  rows.rope_heads = 2 * config_.num_heads;
  rows.head_dim = config_.head_dim();
  rows.fp32_rope = true;
  rows.eps = kEps;
  rows.scratch = scratch_;
  return rows;
}

template <class T>
void QwenVision<T>::run_block(const LayerWeights<T>& block, bool full_attention) {
  const LayerRows<T> rows = layer_rows();
  before_attention(block, rows);
  if (full_attention)
    attend_images();
  else
    attend_windows();
  after_attention(block, rows);
}

template <class T>
void QwenVision<T>::merge() {
  const std::int64_t cells = total_ / config_.merge_unit();
  const std::int64_t cell_width = config_.merge_unit() * config_.hidden_size;
  const std::int64_t width = config_.out_hidden_size;
  parallel_rms_norm(hidden_, merger_norm_, normed_, total_, config_.hidden_size, kEps);
  parallel_linear(merger0_, normed_, attended_, cells, scratch_);
  parallel_gelu(attended_, cells * cell_width);
  parallel_linear(merger2_, attended_, merged_, cells, scratch_);
  // Back into the order in which the cells arrived, each image to its own place.
  std::size_t place = 0;
  for (const Image& image : images_) {
    const std::int64_t first_cell = image.first / config_.merge_unit();
    const std::int64_t count =
        std::int64_t{image.grid_height} * image.grid_width / config_.merge_unit();
    for (std::int64_t i = 0; i < count; ++i, ++place)
      std::copy_n(merged_ + static_cast<std::int64_t>(place) * width, width,
                  image.out + (layout_.cell_order[place] - first_cell) * width);
  }
}

template <class T>
void QwenVision<T>::run(const ProgressTick& tick) {
  lay_out();
  embed_patches();
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    run_block(blocks_[i], config_.is_full_attention(static_cast<std::int64_t>(i)));
    tick(WorkerPhase::kEncode);
  }
  merge();
}

template class QwenVision<float>;
template class QwenVision<Bf16>;

}  // namespace facet
