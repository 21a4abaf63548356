#include "worker/model/qwen2_5_vl/cuda_vision.h"

#include <algorithm>
#include <cmath>

#include "kernels/activation/gelu.h"
#include "kernels/embedding/embed_tokens.h"
#include "kernels/rope/rope_kv_write.h"
#include "kernels/rope/vision_angles.h"
#include "worker/model/angles.h"
#include "worker/model/cuda/varlen_attention.h"

namespace facet {

std::int64_t most_windows(const QwenVisionConfig& vision, std::int64_t patches) {
  return patches / vision.merge_unit() + CudaQwenSizes::kPassImages;  // one a cell: thin strips
}

VisionBuffers::VisionBuffers(Cutter& cutter, const QwenVisionConfig& vision,
                             const CudaQwenSizes& sizes) {
  const std::int64_t count = sizes.pass_patches(vision);
  const auto rows = [&](std::int64_t width) {
    return cutter.take(count * width * value_bytes(sizes.type));
  };
  patches = rows(vision.patch_values());
  embedded = rows(vision.hidden_size);
  hidden = rows(vision.hidden_size);
  normed = rows(vision.hidden_size);
  projected = rows(vision.hidden_size);
  attended = rows(vision.hidden_size);
  qkv = rows(3 * vision.hidden_size);
  const std::int64_t inner_width = CudaQwenWeights::padded_inner(vision);
  gate_up = rows(2 * inner_width);
  inner = rows(inner_width);
  cells = rows(vision.hidden_size);
  merged =
      cutter.take(count / vision.merge_unit() * vision.out_hidden_size * value_bytes(sizes.type));
  const std::int64_t angles =
      count * vision.head_dim() / 2 * static_cast<std::int64_t>(sizeof(float));
  cos = cutter.take<float>(angles);
  sin = cutter.take<float>(angles);
}

std::int64_t VisionInputs::max_side(const QwenVisionConfig& vision, const CudaQwenSizes& sizes) {
  return sizes.image_tokens * vision.merge_size;
}

// Row and column of each patch, cell orders there and back, begins of windows and of images.
std::int64_t VisionInputs::block_bytes(const QwenVisionConfig& vision, const CudaQwenSizes& sizes) {
  const std::int64_t patches = sizes.pass_patches(vision);
  const std::int64_t count = 2 * patches + 2 * patches / vision.merge_unit() +
                             most_windows(vision, patches) + CudaQwenSizes::kPassImages + 2;
  return count * static_cast<std::int64_t>(sizeof(std::int32_t)) + 16 * 8;
}

VisionInputs::VisionInputs(Cutter& cutter, const QwenVisionConfig& vision,
                           const CudaQwenSizes& sizes) {
  const std::int64_t table =
      max_side(vision, sizes) * (vision.head_dim() / 4) * static_cast<std::int64_t>(sizeof(float));
  cos_table = cutter.take<float>(table);
  sin_table = cutter.take<float>(table);
  block = cutter.take<std::byte>(block_bytes(vision, sizes));
}

// A pass on the device; rows are patches in the tower's order, image after image.
struct CudaVision::Pass {
  std::int64_t patches = 0;
  std::int32_t windows = 0, images = 0;
  std::int32_t widest_window = 0, widest_image = 0;
  const std::int32_t *rows = nullptr, *columns = nullptr;     // [patches]
  const std::int32_t *cell_order = nullptr, *back = nullptr;  // [cells]
  const std::int32_t *window_begin = nullptr, *image_begin = nullptr;
};

namespace {

std::uint64_t host_bytes(const QwenVisionConfig& vision, const CudaQwenSizes& sizes) {
  return static_cast<std::uint64_t>(VisionInputs::block_bytes(vision, sizes));
}

}  // namespace

CudaVision::CudaVision(const QwenConfig& config, const CudaQwenSizes& sizes,
                       const CudaQwenWeights& weights, const CudaParts& parts, void* inputs,
                       void* image_rows)
    : config_(config.vision),
      sizes_(sizes),
      weights_(weights),
      parts_(parts),
      image_rows_(image_rows),
      buffers_(cut<VisionBuffers>(parts.activations, config.vision, sizes)),
      inputs_(cut<VisionInputs>(inputs, config.vision, sizes)),
      slots_{Slot(host_bytes(config.vision, sizes)), Slot(host_bytes(config.vision, sizes))} {
  const auto count =
      static_cast<std::size_t>(VisionInputs::max_side(config_, sizes) * (config_.head_dim() / 4));
  std::vector<float> cos(count);
  std::vector<float> sin(count);
  fill_angles(config_.rope_theta, config_.head_dim() / 2, cos, sin);
  const std::size_t bytes = count * sizeof(float);
  FACET_CUDA(cudaMemcpy(inputs_.cos_table, cos.data(), bytes, cudaMemcpyHostToDevice));
  FACET_CUDA(cudaMemcpy(inputs_.sin_table, sin.data(), bytes, cudaMemcpyHostToDevice));
}

CudaVision::Pass CudaVision::pack(std::span<const VisionImage> images) {
  Pass pass;
  std::vector<VisionLayout> layouts;
  for (const VisionImage& image : images) {
    layouts.push_back(make_vision_layout(config_, image.grid_height, image.grid_width));
    pass.patches += image.num_patches();
    pass.windows += static_cast<std::int32_t>(layouts.back().window_patches.size());
    pass.widest_image = std::max(pass.widest_image, static_cast<std::int32_t>(image.num_patches()));
  }
  pass.images = static_cast<std::int32_t>(images.size());
  slot_ = 1 - slot_;
  Slot& slot = slots_[slot_];
  slot.copied.wait();
  StepBlock block(slot.block.data(), inputs_.block, slot.block.size());
  const std::int64_t cells = pass.patches / config_.merge_unit();
  const auto rows = block.add<std::int32_t>(pass.patches);
  const auto columns = block.add<std::int32_t>(pass.patches);
  const auto order = block.add<std::int32_t>(cells);
  const auto back = block.add<std::int32_t>(cells);
  const auto windows = block.add<std::int32_t>(pass.windows + 1);
  const auto begins = block.add<std::int32_t>(pass.images + 1);
  std::size_t patch = 0, cell = 0, window = 0, image = 0;
  windows.host[0] = begins.host[0] = 0;
  for (const VisionLayout& layout : layouts) {
    const auto first = static_cast<std::int32_t>(cell);
    std::copy(layout.rows.begin(), layout.rows.end(), rows.host.begin() + patch);
    std::copy(layout.columns.begin(), layout.columns.end(), columns.host.begin() + patch);
    patch += layout.rows.size();
    for (const std::int64_t from : layout.cell_order) {
      order.host[cell] = first + static_cast<std::int32_t>(from);
      back.host[static_cast<std::size_t>(first) + static_cast<std::size_t>(from)] =
          static_cast<std::int32_t>(cell);
      ++cell;
    }
    for (const std::int64_t count : layout.window_patches) {
      windows.host[window + 1] = windows.host[window] + static_cast<std::int32_t>(count);
      pass.widest_window = std::max(pass.widest_window, static_cast<std::int32_t>(count));
      ++window;
    }
    begins.host[image + 1] = static_cast<std::int32_t>(patch);
    ++image;
  }
  pass.rows = rows.device;
  pass.columns = columns.device;
  pass.cell_order = order.device;
  pass.back = back.device;
  pass.window_begin = windows.device;
  pass.image_begin = begins.device;
  block.send(parts_.stream);
  slot.copied.record(parts_.stream);
  return pass;
}

kernels::RmsNormShape CudaVision::norm_shape(std::int64_t rows) const {
  return parts_.norm_shape(rows, config_.hidden_size, QwenVisionConfig::kRmsNormEps);
}

// hidden += projected; normed = norm(hidden).
void CudaVision::add_norm(const DeviceMatrix& weight, std::int64_t rows) const {
  parts_.add_norm(norm_shape(rows), buffers_.hidden, buffers_.projected, weight, buffers_.normed);
}

// Patches arrive cell by cell and leave in window order.
void CudaVision::embed(const Pass& pass) const {
  parts_.linear(buffers_.patches, weights_.patch_w, nullptr, buffers_.embedded, pass.patches);
  const std::int64_t cell = config_.merge_unit() * config_.hidden_size;
  FACET_CUDA(kernels::gather_rows(parts_.type, buffers_.embedded, pass.cell_order, buffers_.hidden,
                                  pass.patches / config_.merge_unit(),
                                  static_cast<std::int32_t>(cell), parts_.launch()));
  kernels::VisionAnglesArgs angles{inputs_.cos_table, inputs_.sin_table, pass.rows,
                                   pass.columns,      buffers_.cos,      buffers_.sin};
  FACET_CUDA(kernels::vision_angles(
      angles, pass.patches, static_cast<std::int32_t>(config_.head_dim() / 2), parts_.launch()));
}

void CudaVision::attend(const Pass& pass, bool full) const {
  const std::int64_t width = config_.hidden_size;
  kernels::SegmentAttentionArgs args;
  args.q = buffers_.qkv;
  args.k = parts_.at(buffers_.qkv, width);
  args.v = parts_.at(buffers_.qkv, 2 * width);
  args.q_stride = args.k_stride = args.v_stride = 3 * width;
  args.out = buffers_.attended;
  args.out_stride = width;
  args.query_begin = args.key_begin = full ? pass.image_begin : pass.window_begin;
  const std::int32_t widest = full ? pass.widest_image : pass.widest_window;
  const auto heads = static_cast<std::int32_t>(config_.num_heads);
  const auto dim = static_cast<std::int32_t>(config_.head_dim());
  varlen_attention({full ? pass.images : pass.windows, widest, heads, heads, dim, false,
                    1.0F / std::sqrt(static_cast<float>(dim)), parts_.type},
                   args, {pass.patches, pass.patches, widest}, parts_.stream);
}

void CudaVision::run_block(const Pass& pass, std::size_t index) const {
  const CudaVisionBlock& w = weights_.blocks[index];
  const std::int64_t rows = pass.patches;
  if (index == 0) parts_.norm(norm_shape(rows), buffers_.hidden, w.norm1, buffers_.normed);
  parts_.linear(buffers_.normed, w.qkv_w, &w.qkv_b, buffers_.qkv, rows);
  FACET_CUDA(kernels::rope_vision(parts_.type, buffers_.qkv, 3 * config_.hidden_size, buffers_.cos,
                                  buffers_.sin, rows, static_cast<std::int32_t>(config_.num_heads),
                                  static_cast<std::int32_t>(config_.head_dim()), parts_.launch()));
  attend(pass, config_.is_full_attention(static_cast<std::int64_t>(index)));
  parts_.linear(buffers_.attended, w.proj_w, &w.proj_b, buffers_.projected, rows);
  add_norm(w.norm2, rows);
  parts_.gated(buffers_.normed, w.gate_up_w, &w.gate_up_b, buffers_.gate_up, buffers_.inner, rows);
  parts_.linear(buffers_.inner, w.down_w, &w.down_b, buffers_.projected, rows);
  const bool last = index + 1 == weights_.blocks.size();
  add_norm(last ? weights_.merger_norm : weights_.blocks[index + 1].norm1, rows);
}

// Cells become tokens, back in the order in which they arrived.
void CudaVision::merge(const Pass& pass, std::span<const VisionImage> images) const {
  const std::int64_t cells = pass.patches / config_.merge_unit();
  parts_.linear(buffers_.normed, weights_.merger_w0, &weights_.merger_b0, buffers_.cells, cells);
  FACET_CUDA(
      kernels::gelu(parts_.type, buffers_.cells, cells * weights_.merger_w0.rows, parts_.launch()));
  parts_.linear(buffers_.cells, weights_.merger_w2, &weights_.merger_b2, buffers_.merged, cells);
  std::int64_t first = 0;
  for (const VisionImage& image : images) {
    const std::int64_t count = image.num_patches() / config_.merge_unit();
    FACET_CUDA(kernels::gather_rows(
        parts_.type, buffers_.merged, pass.back + first,
        parts_.at(image_rows_, image.pool_row * config_.out_hidden_size), count,
        static_cast<std::int32_t>(config_.out_hidden_size), parts_.launch()));
    first += count;
  }
}

void CudaVision::encode(std::span<const VisionImage> images, const ProgressTick& tick) {
  const Pass pass = pack(images);
  FACET_CHECK(pass.patches <= sizes_.pass_patches(config_) &&
              pass.images <= CudaQwenSizes::kPassImages);
  embed(pass);
  for (std::size_t i = 0; i < weights_.blocks.size(); ++i) {
    run_block(pass, i);
    tick(WorkerPhase::kEncode);
  }
  merge(pass, images);
}

// Squares from one cell to a full pass; of the blocks, one with windows and one without.
void CudaVision::warm_up(const ProgressTick& tick) {
  const std::int64_t most = sizes_.image_tokens * config_.merge_unit();
  FACET_CUDA(cudaMemsetAsync(
      buffers_.patches, 0,
      static_cast<std::size_t>(most * config_.patch_values() * value_bytes(parts_.type)),
      parts_.stream));
  const auto blocks = static_cast<std::int64_t>(weights_.blocks.size());
  for (std::int64_t side = config_.merge_size; side * side <= most; side *= 2) {
    const auto grid = static_cast<std::int32_t>(side);
    const std::vector<VisionImage> images{{grid, grid, 0}};
    const Pass pass = pack(images);
    embed(pass);
    run_block(pass, 0);
    for (std::int64_t i = 1; i < blocks; ++i)
      if (config_.is_full_attention(i) != config_.is_full_attention(0)) {
        run_block(pass, static_cast<std::size_t>(i));
        break;
      }
    merge(pass, images);
    tick(WorkerPhase::kEncode);
  }
  FACET_CUDA(cudaStreamSynchronize(parts_.stream));
}

}  // namespace facet
