#include "worker/model/qwen2_5_vl/cuda_plan.h"

#include <algorithm>

#include "common/base/check.h"
#include "kernels/attention/paged_decode_attention.h"
#include "worker/engine/qwen2_5_vl/plan_fit.h"
#include "worker/model/cuda/image_upload.h"
#include "worker/model/cuda/varlen_attention.h"
#include "worker/model/qwen2_5_vl/cuda_language.h"
#include "worker/model/qwen2_5_vl/cuda_vision.h"

namespace facet {
namespace {

using Bytes = std::uint64_t;

DType device_type(ComputeType type) {
  switch (type) {
    case ComputeType::kFp32:
      return DType::kFp32;
    case ComputeType::kFp16:
      return DType::kFp16;
    case ComputeType::kBf16:
      break;
  }
  return DType::kBf16;
}

std::string type_note(DType type) {
  for (const ComputeType one : {ComputeType::kFp32, ComputeType::kBf16, ComputeType::kFp16})
    if (device_type(one) == type) return std::string(name_of(one));
  FACET_CHECK_MSG(false, "a type without a name");
}

Bytes bytes(std::int64_t count) {
  return static_cast<Bytes>(count);
}

Bytes torch_bytes(const QwenConfig& config, const CudaQwenSizes& sizes) {
  const QwenTextConfig& text = config.text;
  const QwenVisionConfig& vision = config.vision;
  const std::int64_t patches = sizes.pass_patches(vision);
  return std::max(
      varlen_attention_bytes(sizes.step_tokens, text.num_heads, text.head_dim(), sizes.lanes),
      varlen_attention_bytes(patches, vision.num_heads, vision.head_dim(),
                             most_windows(vision, patches)));
}

}  // namespace

Bytes cuda_kv_bytes_per_token(const QwenConfig& config, DType type) {
  const QwenTextConfig& text = config.text;
  return bytes(text.num_layers * 2 * text.num_kv_heads * text.head_dim() * value_bytes(type));
}

std::vector<MemoryItem> cuda_arena_items(const QwenConfig& config, const CudaQwenSizes& sizes) {
  const QwenTextConfig& text = config.text;
  const std::int64_t item = value_bytes(sizes.type);
  const Bytes language = cut_bytes<LanguageActivations>(text, sizes);
  const Bytes vision = cut_bytes<VisionBuffers>(config.vision, sizes);
  const Bytes kv =
      bytes(sizes.kv_blocks * sizes.block_tokens) * cuda_kv_bytes_per_token(config, sizes.type);
  const bool larger_vision = vision > language;
  std::vector<MemoryItem> items{
      {"weights", CudaQwenWeights(config).device_bytes(sizes.type), type_note(sizes.type)},
      {"activations", std::max(language, vision),
       larger_vision ? std::to_string(sizes.pass_patches(config.vision)) + " patches"
                     : std::to_string(sizes.step_tokens) + " tokens"},
      {"logits", bytes(sizes.lanes * text.vocab_size * item),
       std::to_string(sizes.lanes) + " rows"},
      {"sampling", cut_bytes<SamplerRegions>(cuda_sampler_sizes(config, sizes)),
       "what each lane has seen of the vocabulary"},
      {"gathered KV", bytes(2 * sizes.gather_rows() * text.num_kv_heads * text.head_dim() * item),
       std::to_string(sizes.gather_rows()) + " tokens"},
      {"step inputs", cut_bytes<LanguageInputs>(text, sizes), "block tables included"},
      {"encoder inputs", cut_bytes<VisionInputs>(config.vision, sizes), "indices, angles"},
      {"image pixels", cut_bytes<ImageUploadRegions>(), "as they come, and resized"},
      {"encoder output", bytes(sizes.encoder_rows() * text.hidden_size * item),
       std::to_string(sizes.encoder_rows()) + " tokens"},
      {"libtorch", torch_bytes(config, sizes), "attention of prefill and encoder"},
      {"cuBLAS", Matmul::kWorkspaceBytes, ""},
      {"KV pool", kv,
       std::to_string(cuda_kv_bytes_per_token(config, sizes.type)) + " bytes a token"}};
  for (MemoryItem& entry : items) entry.bytes = DeviceArena::padded(entry.bytes);
  return items;
}

Bytes cuda_item_bytes(const std::vector<MemoryItem>& items, const std::string& name) {
  for (const MemoryItem& item : items)
    if (item.name == name) return item.bytes;
  FACET_CHECK_MSG(false, name.c_str());
  return 0;
}

namespace {

CudaQwenSizes smallest(const QwenImageSettings& settings, const PlanRequest& request,
                       std::int64_t context) {
  CudaQwenSizes sizes;
  sizes.type = device_type(request.type);
  sizes.step_tokens = request.max_step_tokens;
  sizes.lanes = request.max_lanes;
  sizes.context = context;
  sizes.block_tokens = request.kv_block_tokens;
  sizes.image_tokens = std::clamp<std::int64_t>(most_image_tokens(settings), 1, context);
  sizes.kv_blocks = sizes.lane_blocks();
  return sizes;
}

Status check_request(const QwenConfig& config, const PlanRequest& request) {
  if (request.kv_block_tokens != kernels::kKvBlockTokens)
    return Error(Code::kUnsupported, "on a GPU worker.kv_block_tokens is " +
                                         std::to_string(kernels::kKvBlockTokens) + ", not " +
                                         std::to_string(request.kv_block_tokens));
  const std::int64_t dim = config.text.head_dim();
  const auto& dims = kernels::kDecodeHeadDims;
  if (std::find(dims.begin(), dims.end(), dim) == dims.end())
    return Error(Code::kUnsupported, "heads of " + std::to_string(dim) +
                                         " values: on a GPU 32, 64, 80, 96, 128 or 256");
  if (config.text.vocab_size > kernels::kMaxSampledVocab)
    return Error(Code::kUnsupported, "a vocabulary of " + std::to_string(config.text.vocab_size) +
                                         " tokens: on a GPU at most " +
                                         std::to_string(kernels::kMaxSampledVocab));
  // Rows are read as 16-byte words.
  for (const std::int64_t width : {config.text.hidden_size, config.text.intermediate_size,
                                   config.vision.hidden_size, config.vision.out_hidden_size})
    if (width % 8 != 0)
      return Error(Code::kUnsupported,
                   "a width of " + std::to_string(width) + ": on a GPU multiples of 8");
  return {};
}

}  // namespace

Result<MemoryPlan> plan_qwen_cuda(const QwenConfig& config, const QwenImageSettings& settings,
                                  const PlanRequest& request) {
  FACET_TRY_STATUS(check_request(config, request));
  const auto needs = [&](std::int64_t context) {
    return kCudaProcessBytes +
           sum_bytes(cuda_arena_items(config, smallest(settings, request, context)));
  };
  const std::int64_t context = FACET_TRY(fit_context(
      request, config.text.max_position_embeddings, request.kv_block_tokens, needs, " of the GPU"));
  CudaQwenSizes sizes = smallest(settings, request, context);
  FittedSizes fitted{context,
                     sizes.block_tokens,
                     sizes.kv_blocks,
                     sizes.image_tokens,
                     sizes.encoder_rows(),
                     cuda_kv_bytes_per_token(config, sizes.type)};
  fitted.kv_blocks = sizes.kv_blocks = fit_kv_blocks(request, needs(context), fitted);
  MemoryPlan plan = plan_of(request, settings, fitted);
  plan.device = {Device::Kind::kCuda, 0};
  plan.items = cuda_arena_items(config, sizes);
  plan.items.push_back({"process", kCudaProcessBytes, "context, code of the kernels"});
  return plan;
}

DeviceSamplerSizes cuda_sampler_sizes(const QwenConfig& config, const CudaQwenSizes& sizes) {
  return {sizes.type, static_cast<std::int32_t>(sizes.lanes),
          static_cast<std::int32_t>(config.text.vocab_size), sizes.context};
}

CudaQwenSizes cuda_sizes_of(const MemoryPlan& plan) {
  CudaQwenSizes sizes;
  sizes.type = device_type(plan.type);
  sizes.step_tokens = plan.max_step_tokens;
  sizes.lanes = plan.max_lanes;
  sizes.context = plan.max_model_len;
  sizes.kv_blocks = plan.kv_blocks;
  sizes.block_tokens = plan.kv_block_tokens;
  sizes.image_tokens = plan.image_tokens_max;
  return sizes;
}

}  // namespace facet
