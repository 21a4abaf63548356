#include "worker/model/qwen2_5_vl/cuda_runner.h"

#include <ATen/Context.h>
#include <c10/core/InferenceMode.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <optional>

#include "common/base/check.h"
#include "worker/engine/sampler.h"
#include "worker/image/qwen_patches.h"
#include "worker/model/cuda/torch_arena.h"
#include "worker/model/qwen2_5_vl/cuda_language.h"
#include "worker/model/qwen2_5_vl/cuda_plan.h"
#include "worker/model/qwen2_5_vl/cuda_vision.h"
#include "worker/model/torch_guard.h"

namespace facet {
namespace {

// Whether anything but the largest logit decides, or the values themselves are asked for.
bool changes_scores(const SequenceChunk& chunk) {
  const SamplingParams& params = chunk.sampler->params();
  return params.temperature > 0.0 || chunk.sampler->repetition_penalty() != 1.0F ||
         params.presence_penalty != 0.0 || params.frequency_penalty != 0.0 ||
         chunk.answer_index < params.min_tokens || chunk.sampler->num_logprobs() >= 0;
}

class QwenCudaRunner final : public ModelRunner {
 public:
  QwenCudaRunner(const QwenConfig& config, const QwenImageSettings& settings,
                 const TensorTable& tensors, const MemoryPlan& plan, const ProgressTick& tick)
      : sizes_(cuda_sizes_of(plan)),
        image_settings_(settings),
        items_(cuda_arena_items(config, sizes_)),
        arena_(sum_bytes(items_)),
        matmul_(sizes_.type, region("cuBLAS")),
        weights_(config),
        parts_{sizes_.type, stream_.get(), &matmul_, region("activations")} {
    set_up_libtorch();
    weights_.reserve(sizes_.type, arena_);
    {
      WeightUpload upload(tensors, sizes_.type, stream_.get(), tick);
      weights_.load(sizes_.type, upload, stream_.get());
    }
    image_rows_ = region("encoder output");
    const std::uint64_t kv_bytes = cuda_item_bytes(items_, "KV pool");
    void* kv = region("KV pool");
    FACET_CUDA(cudaMemsetAsync(kv, 0, kv_bytes, stream_.get()));
    language_.emplace(config, sizes_, weights_, parts_,
                      CudaLanguage::Regions{region("step inputs"), region("logits"), kv,
                                            region("gathered KV"), image_rows_});
    vision_.emplace(config, sizes_, weights_, parts_, region("encoder inputs"), image_rows_);
    pass_patches_ = sizes_.pass_patches(config.vision);
    shape_ = {plan.kv_blocks,    plan.kv_block_tokens,
              plan.encoder_rows, plan.max_step_tokens,
              plan.max_lanes,    static_cast<std::int32_t>(config.text.vocab_size)};
  }

  const RunnerShape& shape() const override { return shape_; }

  Result<std::vector<Status>> encode(std::span<const EncodeJob> jobs,
                                     const ProgressTick& tick) override {
    return torch_guard("image encoder", [&]() -> Result<std::vector<Status>> {
      const c10::InferenceMode no_grad;
      const c10::cuda::CUDAStreamGuard on_stream(torch_stream());
      std::vector<Status> done(jobs.size());
      for (std::size_t next = 0; next < jobs.size();) next = encode_pass(jobs, next, done, tick);
      return done;
    });
  }

  Status launch(std::span<const SequenceChunk> chunks, const ProgressTick& tick) override {
    return torch_guard("language model", [&]() -> Status {
      const c10::InferenceMode no_grad;
      const c10::cuda::CUDAStreamGuard on_stream(torch_stream());
      const CudaLanguage::Scores scores = language_->forward(chunks, changes_scores, tick);
      chosen_.clear();
      for (const SequenceChunk& chunk : chunks)
        if (chunk.sampler != nullptr) chosen_.push_back(choose(chunk, scores, chosen_.size()));
      return {};
    });
  }

  Result<std::span<const ChosenToken>> collect() override {
    return std::span<const ChosenToken>(chosen_);
  }

 private:
  void* region(const std::string& name) { return arena_.take(name, cuda_item_bytes(items_, name)); }

  void set_up_libtorch() {
    install_torch_arena(region("libtorch"), cuda_item_bytes(items_, "libtorch"));
    at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);
  }

  c10::cuda::CUDAStream torch_stream() const {
    return c10::cuda::getStreamFromExternal(stream_.get(), 0);
  }

  ChosenToken choose(const SequenceChunk& chunk, const CudaLanguage::Scores& scores,
                     std::size_t row) {
    if (!scores.logits[row].empty()) return choose_on_host(scores.logits[row], chunk, scores_);
    ChosenToken chosen;
    chosen.saw_nan = scores.best[row] < 0;
    if (!chosen.saw_nan) chosen.token = scores.best[row];
    return chosen;
  }

  // Images from `first` on, as many as one pass takes; returns the next one.
  std::size_t encode_pass(std::span<const EncodeJob> jobs, std::size_t first,
                          std::vector<Status>& done, const ProgressTick& tick) {
    std::vector<std::vector<float>> values;
    std::vector<VisionImage> images;
    std::int64_t patches = 0;
    std::size_t next = first;
    for (; next < jobs.size(); ++next) {
      const EncodeJob& job = jobs[next];
      const std::int64_t count = std::int64_t{job.grid_height} * job.grid_width;
      FACET_CHECK(count <= pass_patches_);
      if (patches + count > pass_patches_ || values.size() == CudaQwenSizes::kPassImages) break;
      done[next] = read_patches(job, values);
      if (!done[next]) continue;
      patches += count;
      images.push_back({{}, job.grid_height, job.grid_width, job.pool_row});
    }
    for (std::size_t i = 0; i < images.size(); ++i) images[i].patches = values[i];
    if (!images.empty()) vision_->encode(images, tick);
    return next;
  }

  Status read_patches(const EncodeJob& job, std::vector<std::vector<float>>& values) const {
    const QwenImagePlan plan = FACET_TRY(plan_qwen_image(job.pixels.size, image_settings_));
    FACET_CHECK(plan.grid_h == job.grid_height && plan.grid_w == job.grid_width);
    std::vector<float> patches(static_cast<std::size_t>(plan.num_floats()));
    write_qwen_patches(job.pixels, image_settings_, plan, patches);
    if (job.is_current && !job.is_current())
      return Error(Code::kCorrupt, "its slot was given to another request");
    values.push_back(std::move(patches));
    return {};
  }

  RunnerShape shape_;
  CudaQwenSizes sizes_;
  QwenImageSettings image_settings_;
  std::vector<MemoryItem> items_;
  DeviceArena arena_;
  CudaStream stream_;
  Matmul matmul_;
  CudaQwenWeights weights_;
  CudaParts parts_;
  void* image_rows_ = nullptr;
  std::int64_t pass_patches_ = 0;
  std::optional<CudaLanguage> language_;
  std::optional<CudaVision> vision_;
  std::vector<ChosenToken> chosen_;
  std::vector<float> scores_;
};

}  // namespace

Result<std::unique_ptr<ModelRunner>> make_qwen_cuda_runner(const QwenConfig& config,
                                                           const QwenImageSettings& settings,
                                                           const TensorTable& tensors,
                                                           const MemoryPlan& plan,
                                                           const ProgressTick& tick) {
  return torch_guard("loading the model", [&]() -> Result<std::unique_ptr<ModelRunner>> {
    const c10::InferenceMode no_grad;
    FACET_CUDA(cudaSetDevice(plan.device.index));
    return std::make_unique<QwenCudaRunner>(config, settings, tensors, plan, tick);
  });
}

}  // namespace facet
