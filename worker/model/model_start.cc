#include "worker/model/model_start.h"

#include <algorithm>
#include <filesystem>

#include "worker/checkpoint/checkpoint.h"
#include "worker/checkpoint/generation_defaults.h"
#include "worker/checkpoint/qwen_config.h"
#include "worker/checkpoint/qwen_tensors.h"
#include "worker/engine/model_engine.h"
#include "worker/engine/qwen2_5_vl/input_processor.h"
#include "worker/engine/qwen2_5_vl/plan.h"
#include "worker/image/preprocessor_config.h"
#include "worker/model/compute_choice.h"
#include "worker/model/gpu_choice.h"
#include "worker/model/host_facts.h"
#include "worker/model/qwen2_5_vl/runner.h"
#include "worker/text/tokenizer.h"

namespace facet {
namespace {

// Of free memory, when no budget is given: the rest of the host lives from what is left.
constexpr double kShareOfFreeMemory = 0.6;

std::string model_name(const std::string& directory) {
  std::filesystem::path path = std::filesystem::path(directory).lexically_normal();
  if (path.filename().empty()) path = path.parent_path();
  return path.filename();
}

struct ModelFiles {
  QwenConfig config;
  QwenImageSettings image_settings;
};

Result<ModelFiles> read_files(const std::string& directory) {
  ModelFiles files;
  files.config = FACET_TRY(load_qwen_config(directory));
  files.image_settings = FACET_TRY(load_qwen_image_settings(directory));
  FACET_TRY_STATUS(check_image_settings(files.image_settings, files.config));
  return files;
}

// On a CPU: libtorch multiplies where there are units for bf16 that only its matrix library uses.
bool library_multiplies(ComputeType type) {
  return type == ComputeType::kBf16 && cpu_has_bf16();
}

// The reference loads it in fp16 as it is, and so do other servers: its published checkpoints are
// bf16, and what overflows in a request ends that request.
constexpr FamilyTypes kQwenTypes{"qwen2_5_vl", ""};

// What a request hears besides, when its logits are not finite.
constexpr const char* kFp16Hint =
    "; in fp16 nothing above 65504 can be told, model.dtype = \"bf16\" has the range of fp32";

// Of a GPU's free memory, when no budget is given.
constexpr double kShareOfFreeGpu = 0.92;

Result<MemoryPlan> make_gpu_plan(const ModelFiles& files, const GpuChoice& gpu,
                                 PlanRequest request) {
  if (request.budget_bytes == 0) {
    const std::uint64_t free_bytes = FACET_TRY(gpu.module->free_memory(gpu.info.index));
    request.budget_bytes =
        static_cast<std::uint64_t>(static_cast<double>(free_bytes) * kShareOfFreeGpu);
  }
  MemoryPlan plan = FACET_TRY(gpu.module->plan_qwen(files.config, files.image_settings, request));
  plan.device.index = gpu.info.index;
  return plan;
}

Result<MemoryPlan> make_plan(const StartOptions& options, const ModelFiles& files,
                             const std::optional<GpuChoice>& gpu) {
  const int workers = std::max(1, options.worker.count);
  PlanRequest request;
  request.model = model_name(options.directory);
  request.budget_bytes = options.budget_bytes;
  request.threads = threads_per_worker(options.worker, workers, available_cores());
  request.max_lanes = options.worker.max_lanes;
  request.max_model_len = options.worker.max_model_len;
  request.max_step_tokens = std::max(options.worker.max_num_batched_tokens, request.max_lanes);
  request.kv_block_tokens = options.worker.kv_block_tokens;
  request.type =
      FACET_TRY(choose_compute_type(options.dtype, {gpu.has_value(), cpu_has_bf16()}, kQwenTypes));
  if (gpu) return make_gpu_plan(files, *gpu, request);
  if (request.budget_bytes == 0)
    request.budget_bytes = static_cast<std::uint64_t>(static_cast<double>(available_memory()) *
                                                      kShareOfFreeMemory / workers);
  request.library_products = library_multiplies(request.type);
  return plan_qwen(files.config, files.image_settings, request);
}

ModelFacts make_facts(const MemoryPlan& plan, const ModelFiles& files, std::uint32_t max_images,
                      const Tokenizer& tokenizer) {
  ModelFacts facts;
  facts.name = plan.model;
  facts.family = plan.family;
  facts.max_model_len = static_cast<std::uint32_t>(plan.max_model_len);
  facts.max_images = max_images;
  // A replacement character for a cut one may come with the next token.
  facts.max_token_text_bytes = static_cast<std::uint32_t>(tokenizer.max_token_bytes() * 3 + 3);
  const auto side = files.image_settings.patch_size * files.image_settings.merge_size;
  facts.image_pixels_per_token = static_cast<std::uint32_t>(side * side);
  facts.image_tokens_min = static_cast<std::uint32_t>(
      std::max<std::int64_t>(1, files.image_settings.min_pixels / (side * side)));
  facts.image_tokens_max = static_cast<std::uint32_t>(plan.image_tokens_max);
  return facts;
}

RunnerOptions runner_options(const MemoryPlan& plan, const QwenImageSettings& image_settings) {
  RunnerOptions options;
  options.shape = {plan.kv_blocks,       plan.kv_block_tokens, plan.encoder_rows,
                   plan.max_step_tokens, plan.max_lanes,       0};
  options.image_settings = image_settings;
  options.context_tokens = plan.max_model_len;
  options.image_tokens = plan.image_tokens_max;
  options.bf16 = plan.type == ComputeType::kBf16;
  options.library_products = library_multiplies(plan.type);
  options.threads = plan.threads;
  options.devices = {plan.device};
  return options;
}

}  // namespace

StartOptions start_options(const Config& config, std::uint32_t worker) {
  StartOptions options;
  options.worker_index = worker;
  options.directory = config.model.path;
  options.worker = config.worker;
  options.dtype = config.model.dtype;
  options.max_images = static_cast<std::uint32_t>(config.broker.max_images);
  const auto& budgets = config.worker.device_max_memory_bytes;
  if (!budgets.empty())
    options.budget_bytes = budgets[std::min<std::size_t>(worker, budgets.size() - 1)];
  return options;
}

Result<MemoryPlan> plan_model(const StartOptions& options) {
  const ModelFiles files = FACET_TRY(read_files(options.directory));
  return make_plan(options, files, FACET_TRY(choose_gpu(options.worker, options.worker_index)));
}

Result<std::unique_ptr<Engine>> start_model_engine(const StartOptions& options,
                                                   const ProgressTick& tick) {
  const ModelFiles files = FACET_TRY(read_files(options.directory));
  mark(options.times, "files");
  const auto gpu = FACET_TRY(choose_gpu(options.worker, options.worker_index));
  mark(options.times, "library");  // of CUDA, and what GPUs there are
  const MemoryPlan plan = FACET_TRY(make_plan(options, files, gpu));
  mark(options.times, gpu ? "context" : "files");  // a GPU is asked for its free memory
  const GenerationDefaults defaults = FACET_TRY(load_generation_defaults(options.directory));
  ModelEngineParts parts;
  parts.capacity = static_cast<std::uint32_t>(options.worker.credits);
  parts.max_lanes = plan.max_lanes;
  parts.sampling = {
      defaults.repetition_penalty,
      defaults.eos_token_ids.empty() ? files.config.eos_token_ids : defaults.eos_token_ids,
      static_cast<std::int32_t>(files.config.text.vocab_size)};
  parts.prefix_cache = options.worker.prefix_cache;
  if (plan.type == ComputeType::kFp16) parts.not_finite_hint = kFp16Hint;
  parts.clock = monotonic_now;
  parts.tick = tick;
  parts.input =
      FACET_TRY(make_qwen_input_processor(options.directory, files.config, files.image_settings,
                                          {plan.image_tokens_max, options.max_images}));
  parts.facts = make_facts(plan, files, options.max_images, parts.input->tokenizer());
  const Checkpoint checkpoint = FACET_TRY(Checkpoint::open(options.directory));
  const TensorTable tensors = FACET_TRY(bind_qwen_tensors(checkpoint, files.config));
  mark(options.times, "files");
  if (gpu) {
    const CudaRunnerOptions runner{parts.sampling.eos_token_ids, options.logits_tap, options.times};
    parts.runner = FACET_TRY(gpu->module->make_qwen_runner(files.config, files.image_settings,
                                                           tensors, plan, runner, tick));
  } else {
    RunnerOptions runner = runner_options(plan, files.image_settings);
    runner.logits_tap = options.logits_tap;
    parts.runner = FACET_TRY(make_qwen_runner(files.config, tensors, runner, tick));
    mark(options.times, "weights");
  }
  return std::make_unique<ModelEngine>(std::move(parts));
}

}  // namespace facet
