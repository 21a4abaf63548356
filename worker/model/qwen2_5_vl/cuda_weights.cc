#include "worker/model/qwen2_5_vl/cuda_weights.h"

#include <string>

#include "worker/model/cuda/cuda_error.h"

namespace facet {
namespace {

template <class Weights, class Visit>
void for_each_matrix(Weights& weights, Visit&& visit) {
  visit(weights.embed);
  visit(weights.final_norm);
  if (!weights.tied) visit(weights.head);
  for (auto& layer : weights.layers)
    for (auto* matrix : {&layer.norm1, &layer.norm2, &layer.qkv_w, &layer.qkv_b, &layer.o_w,
                         &layer.gate_up_w, &layer.down_w})
      visit(*matrix);
  for (auto* matrix : {&weights.patch_w, &weights.merger_norm, &weights.merger_w0,
                       &weights.merger_b0, &weights.merger_w2, &weights.merger_b2})
    visit(*matrix);
  for (auto& block : weights.blocks)
    for (auto* matrix :
         {&block.norm1, &block.norm2, &block.qkv_w, &block.qkv_b, &block.proj_w, &block.proj_b,
          &block.gate_up_w, &block.gate_up_b, &block.down_w, &block.down_b})
      visit(*matrix);
}

UploadPlace all_of(const DeviceMatrix& matrix) {
  return {matrix.data, matrix.columns, 0};
}

UploadPlace rows_from(const DeviceMatrix& matrix, std::int64_t first) {
  return {matrix.data, matrix.columns, first};
}

// The part of a vector that begins at `first`.
UploadPlace values_from(const DeviceMatrix& vector, std::int64_t first, DType type) {
  return {static_cast<std::byte*>(vector.data) + first * value_bytes(type), vector.columns, 0};
}

void load_layer(const CudaLanguageLayer& layer, const std::string& name, DType type,
                std::int64_t q_width, std::int64_t kv_width, WeightUpload& upload) {
  const std::string attention = name + "self_attn.";
  const std::string mlp = name + "mlp.";
  upload.put(name + "input_layernorm.weight", all_of(layer.norm1));
  upload.put(name + "post_attention_layernorm.weight", all_of(layer.norm2));
  upload.put(attention + "q_proj.weight", all_of(layer.qkv_w));
  upload.put(attention + "k_proj.weight", rows_from(layer.qkv_w, q_width));
  upload.put(attention + "v_proj.weight", rows_from(layer.qkv_w, q_width + kv_width));
  upload.put(attention + "q_proj.bias", all_of(layer.qkv_b));
  upload.put(attention + "k_proj.bias", values_from(layer.qkv_b, q_width, type));
  upload.put(attention + "v_proj.bias", values_from(layer.qkv_b, q_width + kv_width, type));
  upload.put(attention + "o_proj.weight", all_of(layer.o_w));
  upload.put(mlp + "gate_proj.weight", all_of(layer.gate_up_w));
  upload.put(mlp + "up_proj.weight", rows_from(layer.gate_up_w, layer.gate_up_w.rows / 2));
  upload.put(mlp + "down_proj.weight", all_of(layer.down_w));
}

void load_block(const CudaVisionBlock& block, const std::string& name, DType type,
                WeightUpload& upload) {
  const std::string mlp = name + "mlp.";
  const std::int64_t inner = block.gate_up_w.rows / 2;
  upload.put(name + "norm1.weight", all_of(block.norm1));
  upload.put(name + "norm2.weight", all_of(block.norm2));
  upload.put(name + "attn.qkv.weight", all_of(block.qkv_w));
  upload.put(name + "attn.qkv.bias", all_of(block.qkv_b));
  upload.put(name + "attn.proj.weight", all_of(block.proj_w));
  upload.put(name + "attn.proj.bias", all_of(block.proj_b));
  upload.put(mlp + "gate_proj.weight", all_of(block.gate_up_w));
  upload.put(mlp + "up_proj.weight", rows_from(block.gate_up_w, inner));
  upload.put(mlp + "gate_proj.bias", all_of(block.gate_up_b));
  upload.put(mlp + "up_proj.bias", values_from(block.gate_up_b, inner, type));
  upload.put(mlp + "down_proj.weight", all_of(block.down_w));
  upload.put(mlp + "down_proj.bias", all_of(block.down_b));
}

}  // namespace

CudaQwenWeights::CudaQwenWeights(const QwenConfig& config) : tied(config.tie_word_embeddings) {
  const QwenTextConfig& text = config.text;
  const std::int64_t hidden = text.hidden_size;
  const std::int64_t qkv = text.qkv_width();
  embed = {text.vocab_size, hidden};
  final_norm = {1, hidden};
  head = {text.vocab_size, hidden};
  for (std::int64_t i = 0; i < text.num_layers; ++i)
    layers.push_back({{1, hidden},
                      {1, hidden},
                      {qkv, hidden},
                      {1, qkv},
                      {hidden, text.num_heads * text.head_dim()},
                      {2 * text.intermediate_size, hidden},
                      {hidden, text.intermediate_size}});
  const QwenVisionConfig& vision = config.vision;
  const std::int64_t width = vision.hidden_size;
  vision_inner = padded_inner(vision);
  for (std::int64_t i = 0; i < vision.depth; ++i)
    blocks.push_back({{1, width},
                      {1, width},
                      {3 * width, width},
                      {1, 3 * width},
                      {width, width},
                      {1, width},
                      {2 * vision_inner, width},
                      {1, 2 * vision_inner},
                      {width, vision_inner},
                      {1, width}});
  const std::int64_t cell = vision.merge_unit() * width;
  patch_w = {width, vision.patch_values()};
  merger_norm = {1, width};
  merger_w0 = {cell, cell};
  merger_b0 = {1, cell};
  merger_w2 = {vision.out_hidden_size, cell};
  merger_b2 = {1, vision.out_hidden_size};
}

std::uint64_t CudaQwenWeights::device_bytes(DType type) const {
  std::uint64_t sum = 0;
  for_each_matrix(*this, [&](const DeviceMatrix& matrix) {
    sum += DeviceArena::padded(static_cast<std::uint64_t>(matrix.values() * value_bytes(type)));
  });
  return sum;
}

void CudaQwenWeights::reserve(DType type, DeviceArena& arena) {
  auto* next = static_cast<std::byte*>(arena.take("weights", device_bytes(type)));
  for_each_matrix(*this, [&](DeviceMatrix& matrix) {
    matrix.data = next;
    next += DeviceArena::padded(static_cast<std::uint64_t>(matrix.values() * value_bytes(type)));
  });
  if (tied) head.data = embed.data;
}

void CudaQwenWeights::load(DType type, WeightUpload& upload, cudaStream_t stream) {
  FACET_CUDA(cudaMemsetAsync(embed.data, 0, device_bytes(type), stream));  // what is padding
  const std::string language = "model.language_model.";
  upload.put(language + "embed_tokens.weight", all_of(embed));
  upload.put(language + "norm.weight", all_of(final_norm));
  if (!tied) upload.put("lm_head.weight", all_of(head));
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const CudaLanguageLayer& layer = layers[i];
    const std::int64_t q_width = layer.o_w.columns;
    load_layer(layer, language + "layers." + std::to_string(i) + ".", type, q_width,
               (layer.qkv_w.rows - q_width) / 2, upload);
  }
  const std::string visual = "model.visual.";
  upload.put(visual + "patch_embed.proj.weight", all_of(patch_w));
  for (std::size_t i = 0; i < blocks.size(); ++i)
    load_block(blocks[i], visual + "blocks." + std::to_string(i) + ".", type, upload);
  upload.put(visual + "merger.ln_q.weight", all_of(merger_norm));
  upload.put(visual + "merger.mlp.0.weight", all_of(merger_w0));
  upload.put(visual + "merger.mlp.0.bias", all_of(merger_b0));
  upload.put(visual + "merger.mlp.2.weight", all_of(merger_w2));
  upload.put(visual + "merger.mlp.2.bias", all_of(merger_b2));
  upload.finish();
}

}  // namespace facet
