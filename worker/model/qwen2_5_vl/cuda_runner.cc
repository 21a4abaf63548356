#include "worker/model/qwen2_5_vl/cuda_runner.h"

#include <ATen/Context.h>
#include <c10/core/InferenceMode.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "common/base/check.h"
#include "worker/engine/sampler.h"
#include "worker/image/qwen_patches.h"
#include "worker/model/cuda/device_sampler.h"
#include "worker/model/cuda/image_upload.h"
#include "worker/model/cuda/step_clock.h"
#include "worker/model/cuda/torch_arena.h"
#include "worker/model/qwen2_5_vl/cuda_language.h"
#include "worker/model/qwen2_5_vl/cuda_plan.h"
#include "worker/model/qwen2_5_vl/cuda_vision.h"
#include "worker/model/torch_guard.h"

namespace facet {
namespace {

class QwenCudaRunner final : public ModelRunner {
 public:
  QwenCudaRunner(const QwenConfig& config, const QwenImageSettings& settings,
                 const TensorTable& tensors, const MemoryPlan& plan,
                 const CudaRunnerOptions& options, const ProgressTick& tick)
      : sizes_(cuda_sizes_of(plan)),
        image_settings_(settings),
        tap_(options.logits_tap),
        items_(cuda_arena_items(config, sizes_)),
        arena_(sum_bytes(items_)),
        matmul_(sizes_.type, region("cuBLAS")),
        weights_(config),
        parts_{sizes_.type, stream_.get(), &matmul_, region("activations")} {
    mark(options.times, "arena");
    set_up_libtorch();
    mark(options.times, "libtorch");
    weights_.reserve(sizes_.type, arena_);
    {
      WeightUpload upload(tensors, sizes_.type, stream_.get(), tick);
      weights_.load(sizes_.type, upload, stream_.get());
    }
    mark(options.times, "weights");
    image_rows_ = region("encoder output");
    const std::uint64_t kv_bytes = cuda_item_bytes(items_, "KV pool");
    void* kv = region("KV pool");
    FACET_CUDA(cudaMemsetAsync(kv, 0, kv_bytes, stream_.get()));
    sampler_.emplace(cuda_sampler_sizes(config, sizes_), options.ends, region("sampling"),
                     stream_.get());
    images_.emplace(image_settings_, sizes_.type, region("image pixels"), stream_.get());
    language_.emplace(config, sizes_, weights_, parts_,
                      CudaLanguage::Regions{region("step inputs"), region("logits"), kv,
                                            region("gathered KV"), image_rows_},
                      *sampler_);
    vision_.emplace(config, sizes_, weights_, parts_, region("encoder inputs"), image_rows_);
    pass_patches_ = sizes_.pass_patches(config.vision);
    shape_ = {plan.kv_blocks,    plan.kv_block_tokens,
              plan.encoder_rows, plan.max_step_tokens,
              plan.max_lanes,    static_cast<std::int32_t>(config.text.vocab_size)};
    mark(options.times, "buffers");
    const c10::cuda::CUDAStreamGuard on_stream(torch_stream());
    language_->touch_prefill(tick);
    vision_->warm_up(tick);
    mark(options.times, "kernels");
    language_->capture_graphs(tick);
    mark(options.times, "graphs");
  }

  const RunnerShape& shape() const override { return shape_; }
  Nanos idle_gap() const override { return clock_.mean_gap(); }

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

  int max_in_flight() const override { return tap_ ? 1 : kSlots; }

  Status launch(std::span<const SequenceChunk> chunks, const ProgressTick& tick) override {
    return torch_guard("language model", [&]() -> Status {
      const c10::InferenceMode no_grad;
      const c10::cuda::CUDAStreamGuard on_stream(torch_stream());
      FACET_CHECK(num_launched_ - num_collected_ < kSlots);
      const auto index = static_cast<int>(num_launched_ % kSlots);
      Slot& slot = slots_[index];
      sampler_->begin_lanes(chunks, index);
      language_->prepare(chunks, index);
      const bool in_flight = num_launched_ > num_collected_;
      clock_.begin(in_flight && !std::exchange(has_encoded_, false), stream_.get());
      language_->run(tick);
      clock_.end(stream_.get());
      slot.num_logprobs.clear();
      for (const SequenceChunk& chunk : chunks)
        if (chunk.sampler != nullptr) slot.num_logprobs.push_back(chunk.sampler->num_logprobs());
      const auto rows = language_->result_rows();
      slot.rows.assign(rows.begin(), rows.end());
      const bool with_top = std::ranges::any_of(slot.num_logprobs, [](auto n) { return n > 0; });
      sampler_->fetch(language_->num_results(), with_top, index);
      slot.done.record(stream_.get());
      ++num_launched_;
      if (tap_) show_logits(slot.rows);
      return {};
    });
  }

  Result<std::span<const ChosenToken>> collect() override {
    return torch_guard("language model", [&]() -> Result<std::span<const ChosenToken>> {
      FACET_CHECK(num_collected_ < num_launched_);
      const auto index = static_cast<int>(num_collected_ % kSlots);
      const Slot& slot = slots_[index];
      slot.done.wait();
      ++num_collected_;
      clock_.collect();
      chosen_.clear();
      for (std::size_t i = 0; i < slot.rows.size(); ++i)
        chosen_.push_back(sampler_->result(index, slot.rows[i], slot.num_logprobs[i]));
      return std::span<const ChosenToken>(chosen_);
    });
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

  void show_logits(const std::vector<std::int32_t>& rows) {
    const auto vocab = static_cast<std::size_t>(shape_.vocab_size);
    const std::size_t row_bytes = vocab * kernels::size_of(sizes_.type);
    std::vector<std::byte> row(row_bytes);
    std::vector<float> wide(vocab);
    FACET_CUDA(cudaStreamSynchronize(stream_.get()));
    for (const std::int32_t index : rows) {
      const auto* from = static_cast<const std::byte*>(language_->logits()) +
                         static_cast<std::size_t>(index) * row_bytes;
      FACET_CUDA(cudaMemcpy(row.data(), from, row_bytes, cudaMemcpyDeviceToHost));
      if (sizes_.type == DType::kFp32)
        std::memcpy(wide.data(), row.data(), row_bytes);
      else if (sizes_.type == DType::kFp16)
        std::copy_n(reinterpret_cast<const c10::Half*>(row.data()), vocab, wide.begin());
      else
        std::copy_n(reinterpret_cast<const c10::BFloat16*>(row.data()), vocab, wide.begin());
      tap_(wide);
    }
  }

  // Images from `first` on, as many as one pass takes; returns the next one.
  std::size_t encode_pass(std::span<const EncodeJob> jobs, std::size_t first,
                          std::vector<Status>& done, const ProgressTick& tick) {
    std::vector<VisionImage> images;
    std::int64_t patches = 0;
    std::size_t next = first;
    images_->begin_pass();
    for (; next < jobs.size(); ++next) {
      const EncodeJob& job = jobs[next];
      const std::int64_t count = std::int64_t{job.grid_height} * job.grid_width;
      FACET_CHECK(count <= pass_patches_);
      if (patches + count > pass_patches_ || images.size() == CudaQwenSizes::kPassImages ||
          !images_->has_room(job.pixels))
        break;
      done[next] = send_patches(job, patches);
      if (!done[next]) continue;
      patches += count;
      images.push_back({job.grid_height, job.grid_width, job.pool_row});
    }
    images_->end_pass();
    if (!images.empty()) vision_->encode(images, tick);
    has_encoded_ = true;
    return next;
  }

  Status send_patches(const EncodeJob& job, std::int64_t first) {
    const QwenImagePlan plan = FACET_TRY(plan_qwen_image(job.pixels.size, image_settings_));
    FACET_CHECK(plan.grid_h == job.grid_height && plan.grid_w == job.grid_width);
    images_->add(job.pixels, plan, vision_->patches(first));
    if (job.is_current && !job.is_current())
      return Error(Code::kCorrupt, "its slot was given to another request");
    return {};
  }

  static constexpr int kSlots = DeviceSampler::kSlots;
  struct Slot {                              // of a step in flight, for the chunks that choose
    std::vector<std::int32_t> rows;          // of the results
    std::vector<std::int32_t> num_logprobs;  // asked for
    CudaEvent done;
  };

  RunnerShape shape_;
  CudaQwenSizes sizes_;
  QwenImageSettings image_settings_;
  LogitsTap tap_;
  std::vector<MemoryItem> items_;
  DeviceArena arena_;
  CudaStream stream_;
  Matmul matmul_;
  CudaQwenWeights weights_;
  CudaParts parts_;
  void* image_rows_ = nullptr;
  std::int64_t pass_patches_ = 0;
  std::optional<DeviceSampler> sampler_;
  std::optional<ImageUpload> images_;
  std::optional<CudaLanguage> language_;
  std::optional<CudaVision> vision_;
  Slot slots_[kSlots];
  StepClock clock_;
  bool has_encoded_ = false;  // since the step before
  std::uint64_t num_launched_ = 0;
  std::uint64_t num_collected_ = 0;
  std::vector<ChosenToken> chosen_;
};

}  // namespace

Result<std::unique_ptr<ModelRunner>> make_qwen_cuda_runner(
    const QwenConfig& config, const QwenImageSettings& settings, const TensorTable& tensors,
    const MemoryPlan& plan, const CudaRunnerOptions& options, const ProgressTick& tick) {
  if (options.ends.size() > kernels::kMaxEosTokens)
    return Error(Code::kUnsupported, std::to_string(options.ends.size()) +
                                         " tokens that end an answer: on a GPU at most " +
                                         std::to_string(kernels::kMaxEosTokens));
  return torch_guard("loading the model", [&]() -> Result<std::unique_ptr<ModelRunner>> {
    const c10::InferenceMode no_grad;
    FACET_CUDA(cudaSetDevice(plan.device.index));
    FACET_CUDA(cudaFree(nullptr));  // makes the context where there is none
    mark(options.times, "context");
    return std::make_unique<QwenCudaRunner>(config, settings, tensors, plan, options, tick);
  });
}

}  // namespace facet
