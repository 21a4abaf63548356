#include "worker/model/qwen2_5_vl/vision.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/scaled_dot_product_attention.h>

#include <cmath>
#include <string>

#include "common/base/check.h"
#include "worker/model/parallel_ops.h"
#include "worker/model/typed.h"

namespace facet {

// Activations of one image; rows are patches in the tower's order.
template <class T>
struct QwenVision<T>::Buffers {
  Buffers(const QwenVisionConfig& config, std::int64_t patches)
      : normed(make(patches, config.hidden_size)),
        qkv(make(patches, 3 * config.hidden_size)),
        attended(make(patches, config.hidden_size)),
        gate_up(make(patches, 2 * config.intermediate_size)),
        inner(make(patches, config.intermediate_size)) {}

  static at::Tensor make(std::int64_t rows, std::int64_t width) {
    return at::empty({rows, width}, kTorchType<T>);
  }

  at::Tensor hidden, normed, qkv, attended, gate_up, inner;
};

template <class T>
QwenVision<T>::QwenVision(const QwenVisionConfig& config, const WeightLoader& weights)
    : config_(config) {
  const std::string model = "model.visual.";
  patch_w_ = weights.get(model + "patch_embed.proj.weight")
                 .reshape({config.hidden_size, config.patch_values()});
  for (std::int64_t i = 0; i < config.depth; ++i) {
    const std::string name = model + "blocks." + std::to_string(i) + ".";
    const std::string mlp = name + "mlp.";
    Block block;
    block.norm1 = weights.get(name + "norm1.weight");
    block.norm2 = weights.get(name + "norm2.weight");
    block.qkv_w = weights.get(name + "attn.qkv.weight");
    block.qkv_b = weights.get(name + "attn.qkv.bias");
    block.proj_w = weights.get(name + "attn.proj.weight");
    block.proj_b = weights.get(name + "attn.proj.bias");
    block.gate_up_w = weights.stack_rows({mlp + "gate_proj.weight", mlp + "up_proj.weight"});
    block.gate_up_b = weights.stack_rows({mlp + "gate_proj.bias", mlp + "up_proj.bias"});
    block.down_w = weights.get(mlp + "down_proj.weight");
    block.down_b = weights.get(mlp + "down_proj.bias");
    blocks_.push_back(std::move(block));
  }
  merger_norm_ = weights.get(model + "merger.ln_q.weight");
  merger_w0_ = weights.get(model + "merger.mlp.0.weight");
  merger_b0_ = weights.get(model + "merger.mlp.0.bias");
  merger_w2_ = weights.get(model + "merger.mlp.2.weight");
  merger_b2_ = weights.get(model + "merger.mlp.2.bias");
}

// Patches come with the values of the file's order (C, T, height, width) and leave in window order.
template <class T>
at::Tensor QwenVision<T>::embed_patches(const ImagePatches& image,
                                        const VisionLayout& layout) const {
  const auto patches = static_cast<std::int64_t>(image.grid_height) * image.grid_width;
  FACET_CHECK(static_cast<std::int64_t>(image.values.size()) == patches * config_.patch_values());
  const at::Tensor values = at::from_blob(const_cast<float*>(image.values.data()),
                                          {patches, config_.patch_values()}, at::kFloat);
  at::Tensor embedded = Buffers::make(patches, config_.hidden_size);
  linear_into(embedded, values.to(kTorchType<T>), patch_w_, {});
  const at::Tensor order = at::from_blob(const_cast<std::int64_t*>(layout.cell_order.data()),
                                         {patches / config_.merge_unit()}, at::kLong);
  return embedded.view({-1, config_.merge_unit() * config_.hidden_size})
      .index_select(0, order)
      .view({patches, config_.hidden_size});
}

template <class T>
void QwenVision<T>::attend(bool full_attention, const VisionLayout& layout,
                           Buffers& buffers) const {
  const std::int64_t heads = config_.num_heads;
  const std::int64_t dim = config_.head_dim();
  const std::int64_t patches = buffers.qkv.size(0);
  const double scale = 1.0 / std::sqrt(static_cast<double>(dim));
  // `count` windows of `length` patches each from `first` on, in one call.
  const auto run = [&](std::int64_t first, std::int64_t count, std::int64_t length) {
    const at::Tensor qkv = buffers.qkv.narrow(0, first, count * length)
                               .view({count, length, 3, heads, dim})
                               .permute({2, 0, 3, 1, 4});  // [3, windows, heads, patches, dim]
    const at::Tensor out = at::scaled_dot_product_attention(
        qkv.select(0, 0), qkv.select(0, 1), qkv.select(0, 2), {}, 0.0, false, scale);
    buffers.attended.narrow(0, first, count * length)
        .view({count, length, heads, dim})
        .copy_(out.transpose(1, 2));
  };
  if (full_attention) return run(0, 1, patches);
  std::int64_t first = 0;
  const auto& windows = layout.window_patches;
  for (std::size_t begin = 0; begin < windows.size();) {
    std::size_t end = begin + 1;
    while (end < windows.size() && windows[end] == windows[begin]) ++end;
    const auto count = static_cast<std::int64_t>(end - begin);
    run(first, count, windows[begin]);
    first += count * windows[begin];
    begin = end;
  }
}

template <class T>
void QwenVision<T>::run_block(const Block& block, bool full_attention, const VisionLayout& layout,
                              const RotaryTable& rotary, Buffers& buffers) const {
  constexpr auto kEps = static_cast<float>(QwenVisionConfig::kRmsNormEps);
  parallel_rms_norm<T>(buffers.hidden, block.norm1, buffers.normed, kEps);
  linear_into(buffers.qkv, buffers.normed, block.qkv_w, block.qkv_b);
  parallel_rope<T>(buffers.qkv, 2 * config_.num_heads, config_.head_dim(), rotary, true);
  attend(full_attention, layout, buffers);
  linear_into(buffers.normed, buffers.attended, block.proj_w, block.proj_b);
  parallel_add_into<T>(buffers.hidden, buffers.normed);
  parallel_rms_norm<T>(buffers.hidden, block.norm2, buffers.normed, kEps);
  linear_into(buffers.gate_up, buffers.normed, block.gate_up_w, block.gate_up_b);
  parallel_silu_mul<T>(buffers.gate_up, buffers.inner);
  linear_into(buffers.normed, buffers.inner, block.down_w, block.down_b);
  parallel_add_into<T>(buffers.hidden, buffers.normed);
}

template <class T>
void QwenVision<T>::merge(const VisionLayout& layout, Buffers& buffers, at::Tensor& out) const {
  constexpr auto kEps = static_cast<float>(QwenVisionConfig::kRmsNormEps);
  parallel_rms_norm<T>(buffers.hidden, merger_norm_, buffers.normed, kEps);
  const at::Tensor cells = buffers.normed.view({-1, config_.merge_unit() * config_.hidden_size});
  at::Tensor inner = Buffers::make(cells.size(0), cells.size(1));
  linear_into(inner, cells, merger_w0_, merger_b0_);
  at::Tensor merged = Buffers::make(cells.size(0), config_.out_hidden_size);
  linear_into(merged, at::gelu(inner, "none"), merger_w2_, merger_b2_);
  const at::Tensor order = at::from_blob(const_cast<std::int64_t*>(layout.cell_order.data()),
                                         {cells.size(0)}, at::kLong);
  out.index_copy_(0, order, merged);  // back into the order in which the cells arrived
}

template <class T>
void QwenVision<T>::encode(const ImagePatches& image, at::Tensor out,
                           const ProgressTick& tick) const {
  const VisionLayout layout = make_vision_layout(config_, image.grid_height, image.grid_width);
  const RotaryTable rotary = vision_rotary(config_, layout.rows, layout.columns);
  Buffers buffers(config_, static_cast<std::int64_t>(layout.rows.size()));
  buffers.hidden = embed_patches(image, layout);
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    const bool full = config_.is_full_attention(static_cast<std::int64_t>(i));
    run_block(blocks_[i], full, layout, rotary, buffers);
    tick(WorkerPhase::kEncode);
  }
  merge(layout, buffers, out);
}

template class QwenVision<float>;
template class QwenVision<Bf16>;

}  // namespace facet
