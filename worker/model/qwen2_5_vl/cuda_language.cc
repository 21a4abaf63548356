#include "worker/model/qwen2_5_vl/cuda_language.h"

#include <algorithm>
#include <cmath>

#include "kernels/attention/kv_gather.h"
#include "kernels/embedding/embed_tokens.h"
#include "kernels/norm/rms_norm.h"
#include "kernels/rope/rope_kv_write.h"
#include "worker/model/angles.h"
#include "worker/model/cuda/varlen_attention.h"
#include "worker/model/qwen2_5_vl/cuda_step.h"

namespace facet {
namespace {

std::int64_t ints(std::int64_t count) {
  return count * static_cast<std::int64_t>(sizeof(std::int32_t));
}

}  // namespace

LanguageActivations::LanguageActivations(Cutter& cutter, const QwenTextConfig& text,
                                         const CudaQwenSizes& sizes) {
  const auto rows = [&](std::int64_t count, std::int64_t width) {
    return cutter.take(count * width * value_bytes(sizes.type));
  };
  hidden = rows(sizes.step_tokens, text.hidden_size);
  normed = rows(sizes.step_tokens, text.hidden_size);
  projected = rows(sizes.step_tokens, text.hidden_size);
  qkv = rows(sizes.step_tokens, text.qkv_width());
  attended = rows(sizes.step_tokens, text.num_heads * text.head_dim());
  gate_up = rows(sizes.step_tokens, 2 * text.intermediate_size);
  inner = rows(sizes.step_tokens, text.intermediate_size);
  last_hidden = rows(sizes.lanes, text.hidden_size);
  last_attended = rows(sizes.lanes, text.num_heads * text.head_dim());
}

// A row: token, chunk, index, three positions, image row. A chunk: length, last row, two begins of
// attention and its place in the table.
std::int64_t LanguageInputs::block_bytes(const CudaQwenSizes& sizes) {
  constexpr std::int64_t kArrays = 16;  // each begins at a multiple of 16 bytes
  // A group of attention has one begin more than it has chunks, and at most one group a chunk.
  return ints(7 * sizes.step_tokens + 8 * sizes.lanes) + 16 * (kArrays + 3 * sizes.lanes);
}

std::size_t LanguageInputs::workspace_bytes(const QwenTextConfig& text,
                                            const CudaQwenSizes& sizes) {
  return kernels::paged_decode_workspace_bytes(decode_shape(text, sizes));
}

LanguageInputs::LanguageInputs(Cutter& cutter, const QwenTextConfig& text,
                               const CudaQwenSizes& sizes) {
  block = cutter.take<std::byte>(block_bytes(sizes));
  table = cutter.take<std::int32_t>(ints(sizes.lanes * sizes.lane_blocks()));
  frequencies = cutter.take<float>(ints(text.head_dim() / 2));
  attention_workspace = cutter.take(static_cast<std::int64_t>(workspace_bytes(text, sizes)));
}

kernels::PagedDecodeShape decode_shape(const QwenTextConfig& text, const CudaQwenSizes& sizes) {
  const std::int64_t dim = text.head_dim();
  kernels::PagedDecodeShape shape;
  shape.lanes = static_cast<std::int32_t>(sizes.lanes);
  shape.heads = static_cast<std::int32_t>(text.num_heads);
  shape.kv_heads = static_cast<std::int32_t>(text.num_kv_heads);
  shape.head_dim = static_cast<std::int32_t>(dim);
  shape.max_blocks = static_cast<std::int32_t>(sizes.lane_blocks());
  shape.scale = 1.0F / std::sqrt(static_cast<float>(dim));
  shape.dtype = sizes.type;
  // The tokens of a head in a block are one run of memory.
  shape.layout = {text.num_kv_heads * sizes.block_tokens * dim, dim, sizes.block_tokens * dim};
  return shape;
}

namespace {

PinnedBuffer pinned_block(const CudaQwenSizes& sizes) {
  return PinnedBuffer(static_cast<std::uint64_t>(LanguageInputs::block_bytes(sizes)));
}

PinnedBuffer pinned_table(const CudaQwenSizes& sizes) {
  return PinnedBuffer(static_cast<std::uint64_t>(ints(sizes.lanes * sizes.lane_blocks())));
}

}  // namespace

CudaLanguage::CudaLanguage(const QwenConfig& config, const CudaQwenSizes& sizes,
                           const CudaQwenWeights& weights, const CudaParts& parts,
                           const Regions& regions, const DeviceSampler& sampler)
    : config_(config.text),
      sizes_(sizes),
      weights_(weights),
      parts_(parts),
      regions_(regions),
      sampler_(sampler),
      buffers_(cut<LanguageActivations>(parts.activations, config.text, sizes)),
      inputs_(cut<LanguageInputs>(regions.inputs, config.text, sizes)),
      decode_(decode_shape(config.text, sizes)),
      host_block_{pinned_block(sizes), pinned_block(sizes)},
      host_table_{pinned_table(sizes), pinned_table(sizes)} {
  const std::vector<float> frequencies =
      inverse_frequencies(config_.rope_theta, config_.head_dim());
  FACET_CUDA(cudaMemcpy(inputs_.frequencies, frequencies.data(), frequencies.size() * sizeof(float),
                        cudaMemcpyHostToDevice));
  FACET_CUDA(
      cudaMemset(inputs_.attention_workspace, 0, LanguageInputs::workspace_bytes(config_, sizes_)));
}

CudaLanguage::~CudaLanguage() = default;

void* CudaLanguage::kv_pool(std::int64_t layer, bool values) const {
  const std::int64_t pool = sizes_.kv_blocks * decode_.layout.block_stride;
  return parts_.at(regions_.kv, (2 * layer + (values ? 1 : 0)) * pool);
}

kernels::RmsNormShape CudaLanguage::norm_shape(std::int64_t rows) const {
  return parts_.norm_shape(rows, config_.hidden_size, config_.rms_norm_eps);
}

void CudaLanguage::rope(const Step& step, std::int64_t layer) const {
  kernels::RopeShape shape;
  shape.rows = step.rows;
  shape.heads = decode_.heads;
  shape.kv_heads = decode_.kv_heads;
  shape.head_dim = decode_.head_dim;
  for (std::size_t axis = 0; axis < 3; ++axis)
    shape.sections[axis] = static_cast<std::int32_t>(config_.mrope_section[axis]);
  shape.max_blocks = decode_.max_blocks;
  shape.dtype = parts_.type;
  shape.layout = decode_.layout;
  kernels::RopeArgs args;
  args.qkv = buffers_.qkv;
  args.qkv_stride = config_.qkv_width();
  args.frequencies = inputs_.frequencies;
  args.positions = step.positions;
  args.keys = kv_pool(layer, false);
  args.values = kv_pool(layer, true);
  args.block_table = inputs_.table;
  args.row_lane = step.row_chunk;
  args.row_index = step.row_index;
  FACET_CUDA(kernels::rope_kv_write(shape, args, parts_.launch()));
}

void CudaLanguage::attend(const Step& step, std::int64_t layer) const {
  if (step.decode_rows > 0) {
    kernels::PagedDecodeShape shape = decode_;
    shape.lanes = step.decode_rows;
    kernels::PagedDecodeArgs args;
    args.q = buffers_.qkv;
    args.q_stride = config_.qkv_width();
    args.keys = kv_pool(layer, false);
    args.values = kv_pool(layer, true);
    args.block_table = inputs_.table;
    args.lengths = step.lengths;
    args.out = buffers_.attended;
    args.workspace = inputs_.attention_workspace;
    FACET_CUDA(kernels::paged_decode_attention(shape, args, parts_.launch()));
  }
  for (const Group& group : step.groups) attend_group(group, layer);
}

// Prefill: keys and values of the chunk itself where it is a prompt's beginning, else all of the
// sequence's, brought together out of its blocks.
void CudaLanguage::attend_group(const Group& group, std::int64_t layer) const {
  const std::int64_t width = config_.qkv_width();
  const std::int64_t q_width = config_.num_heads * config_.head_dim();
  const std::int64_t kv_width = config_.num_kv_heads * config_.head_dim();
  void* queries = parts_.at(buffers_.qkv, group.first_row * width);
  kernels::SegmentAttentionArgs args;
  args.q = queries;
  args.q_stride = width;
  args.out = parts_.at(buffers_.attended, group.first_row * q_width);
  args.out_stride = q_width;
  args.query_begin = group.query_begin;
  args.key_begin = group.key_begin;
  if (group.gathered) {
    kernels::KvGatherArgs gather{kv_pool(layer, false),
                                 kv_pool(layer, true),
                                 inputs_.table,
                                 group.chunks,
                                 group.key_begin,
                                 regions_.gathered,
                                 parts_.at(regions_.gathered, sizes_.gather_rows() * kv_width)};
    FACET_CUDA(
        kernels::gather_kv({group.segments, group.max_keys, decode_.kv_heads, decode_.head_dim,
                            decode_.max_blocks, parts_.type, decode_.layout},
                           gather, parts_.launch()));
    args.k = gather.keys_out;
    args.v = gather.values_out;
    args.k_stride = args.v_stride = kv_width;
  } else {
    args.k = parts_.at(queries, q_width);
    args.v = parts_.at(queries, q_width + kv_width);
    args.k_stride = args.v_stride = width;
  }
  varlen_attention({group.segments, group.max_queries, decode_.heads, decode_.kv_heads,
                    decode_.head_dim, true, decode_.scale, parts_.type},
                   args, {group.query_rows, group.key_rows, group.max_keys}, parts_.stream);
}

// What follows attention needs only the rows that something is chosen from in the last layer.
void CudaLanguage::run_layer(const Step& step, std::size_t layer) const {
  const CudaLanguageLayer& w = weights_.layers[layer];
  if (layer == 0) parts_.norm(norm_shape(step.rows), buffers_.hidden, w.norm1, buffers_.normed);
  parts_.linear(buffers_.normed, w.qkv_w, &w.qkv_b, buffers_.qkv, step.rows);
  rope(step, static_cast<std::int64_t>(layer));
  if (layer + 1 == weights_.layers.size() && step.chosen_rows == 0) return;
  attend(step, static_cast<std::int64_t>(layer));
  if (layer + 1 < weights_.layers.size())
    return run_mlp(w, buffers_.attended, buffers_.hidden, step.rows,
                   weights_.layers[layer + 1].norm1);
  if (step.chosen_row == nullptr)
    return run_mlp(w, buffers_.attended, buffers_.hidden, step.rows, weights_.final_norm);
  gather(buffers_.attended, step, buffers_.last_attended, config_.num_heads * config_.head_dim());
  gather(buffers_.hidden, step, buffers_.last_hidden, config_.hidden_size);
  run_mlp(w, buffers_.last_attended, buffers_.last_hidden, step.chosen_rows, weights_.final_norm);
}

// Leaves norm(hidden) in `normed`.
void CudaLanguage::run_mlp(const CudaLanguageLayer& w, const void* attended, void* hidden,
                           std::int64_t rows, const DeviceMatrix& next_norm) const {
  parts_.linear(attended, w.o_w, nullptr, buffers_.projected, rows);
  parts_.add_norm(norm_shape(rows), hidden, buffers_.projected, w.norm2, buffers_.normed);
  parts_.gated(buffers_.normed, w.gate_up_w, nullptr, buffers_.gate_up, buffers_.inner, rows);
  parts_.linear(buffers_.inner, w.down_w, nullptr, buffers_.projected, rows);
  parts_.add_norm(norm_shape(rows), hidden, buffers_.projected, next_norm, buffers_.normed);
}

void CudaLanguage::gather(const void* from, const Step& step, void* to, std::int64_t width) const {
  FACET_CUDA(kernels::gather_rows(parts_.type, from, step.chosen_row, to, step.chosen_rows,
                                  static_cast<std::int32_t>(width), parts_.launch()));
}

void CudaLanguage::prepare(std::span<const SequenceChunk> chunks, int slot) {
  const std::int32_t lanes = graph_lanes(chunks);
  step_ = std::make_unique<Step>(pack(chunks, lanes, slot));
  if (lanes > 0) step_->graph = &graphs_.at(lanes);
}

void CudaLanguage::run(const ProgressTick& tick) {
  if (step_->graph == nullptr) return compute(*step_, tick);
  tick(WorkerPhase::kDecode);
  step_->graph->launch(parts_.stream);
}

std::int32_t CudaLanguage::num_results() const {
  return step_->chosen_rows;
}

void CudaLanguage::compute(const Step& step, const ProgressTick& tick) const {
  embed(step);
  if (has_few_lanes(step)) return compute_few_lanes(step);
  const WorkerPhase phase = step.groups.empty() ? WorkerPhase::kDecode : WorkerPhase::kPrefill;
  for (std::size_t layer = 0; layer < weights_.layers.size(); ++layer) {
    run_layer(step, layer);
    tick(phase);
  }
  choose(step);
}

void CudaLanguage::choose(const Step& step) const {
  if (step.chosen_rows == 0) return;
  parts_.linear(buffers_.normed, weights_.head, nullptr, regions_.logits, step.chosen_rows);
  sampler_.sample(regions_.logits, step.chosen_lane, step.chosen_rows, parts_.launch());
}

void CudaLanguage::embed(const Step& step) const {
  kernels::EmbedArgs args;
  args.table = weights_.embed.data;
  args.images = regions_.image_rows;
  args.token_ids = step.tokens;
  args.chosen = sampler_.chosen();
  args.image_row = step.image_row;
  args.out = buffers_.hidden;
  FACET_CUDA(kernels::embed_tokens(parts_.type, args, step.rows,
                                   static_cast<std::int32_t>(config_.hidden_size),
                                   static_cast<std::int32_t>(config_.vocab_size), parts_.launch()));
}

}  // namespace facet
