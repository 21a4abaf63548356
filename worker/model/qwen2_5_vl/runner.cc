#include "worker/model/qwen2_5_vl/runner.h"

#include <ATen/Parallel.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>

#include "common/base/check.h"
#include "worker/engine/sampler.h"
#include "worker/image/qwen_patches.h"
#include "worker/model/kv_pool.h"
#include "worker/model/qwen2_5_vl/language.h"
#include "worker/model/qwen2_5_vl/vision.h"
#include "worker/model/thread_scope.h"
#include "worker/model/torch_guard.h"
#include "worker/model/typed.h"
#include "worker/model/weights.h"

namespace facet {
namespace {

KvShape kv_shape(const QwenTextConfig& text, const RunnerShape& shape) {
  return {text.num_layers, shape.num_blocks, shape.block_tokens, text.num_kv_heads,
          text.head_dim()};
}

double vision_weights(const QwenVisionConfig& vision) {
  const auto hidden = static_cast<double>(vision.hidden_size);
  const auto inner = static_cast<double>(vision.intermediate_size);
  return static_cast<double>(vision.depth) * hidden * (4 * hidden + 3 * inner);
}

double language_weights(const QwenTextConfig& text) {
  const auto hidden = static_cast<double>(text.hidden_size);
  const auto inner = static_cast<double>(text.intermediate_size);
  return static_cast<double>(text.num_layers) * hidden * (3 * hidden + 3 * inner);
}

template <class T>
class QwenRunner final : public ModelRunner {
 public:
  QwenRunner(const QwenConfig& config, const RunnerOptions& options, const WeightLoader& weights)
      : shape_(options.shape),
        image_settings_(options.image_settings),
        threads_(options.threads),
        logits_tap_(options.logits_tap),
        vision_weights_(vision_weights(config.vision)),
        language_weights_(language_weights(config.text)),
        vision_(config.vision, weights),
        language_(config,
                  {options.shape.max_step_tokens, options.shape.max_step_chunks,
                   options.context_tokens, options.threads},
                  weights),
        kv_(kv_shape(config.text, options.shape), kTorchType<T>),
        image_rows_(
            at::zeros({options.shape.encoder_rows, config.text.hidden_size}, kTorchType<T>)) {
    shape_.vocab_size = static_cast<std::int32_t>(config.text.vocab_size);
  }

  const RunnerShape& shape() const override { return shape_; }

  Result<std::vector<Status>> encode(std::span<const EncodeJob> jobs,
                                     const ProgressTick& tick) override {
    std::vector<Status> done;
    for (const EncodeJob& job : jobs) done.push_back(encode_one(job, tick));
    return done;
  }

  // The whole step, in the caller's thread.
  Status launch(std::span<const SequenceChunk> chunks, const ProgressTick& tick) override {
    return torch_guard("language model", [&]() -> Status {
      const c10::InferenceMode no_grad;
      double tokens = 0;
      for (const SequenceChunk& chunk : chunks)
        tokens += static_cast<double>(chunk.token_ids.size());
      const ThreadScope scope(threads_for(tokens * language_weights_, threads_));
      const LogitsView logits = language_.forward(chunks, image_rows_, kv_, tick);
      chosen_.clear();
      for (const SequenceChunk& chunk : chunks) {
        if (chunk.sampler == nullptr) continue;
        const auto row = logits.row(static_cast<std::int32_t>(chosen_.size()));
        if (logits_tap_) logits_tap_(row);
        chosen_.push_back(choose_on_host(row, chunk, scores_));
      }
      return {};
    });
  }

  Result<std::span<const ChosenToken>> collect() override {
    return std::span<const ChosenToken>(chosen_);
  }

 private:
  Status encode_one(const EncodeJob& job, const ProgressTick& tick) {
    const QwenImagePlan plan = FACET_TRY(plan_qwen_image(job.pixels.size, image_settings_));
    FACET_CHECK(plan.grid_h == job.grid_height && plan.grid_w == job.grid_width);
    FACET_CHECK(job.pool_row >= 0 && job.pool_row + plan.num_tokens <= shape_.encoder_rows);
    patches_.resize(static_cast<std::size_t>(plan.num_floats()));
    write_qwen_patches(job.pixels, image_settings_, plan, patches_);
    if (job.is_current && !job.is_current())
      return Error(Code::kCorrupt, "its slot was given to another request");
    return torch_guard("image encoder", [&]() -> Status {
      const c10::InferenceMode no_grad;
      const double patches = static_cast<double>(plan.num_patches());
      const ThreadScope scope(threads_for(patches * vision_weights_, threads_));
      vision_.encode({patches_, job.grid_height, job.grid_width},
                     image_rows_.narrow(0, job.pool_row, plan.num_tokens), tick);
      return {};
    });
  }

  RunnerShape shape_;
  QwenImageSettings image_settings_;
  int threads_;
  LogitsTap logits_tap_;
  double vision_weights_;    // multiplications of a patch
  double language_weights_;  // multiplications of a token
  QwenVision<T> vision_;
  QwenLanguage<T> language_;
  KvPool kv_;
  at::Tensor image_rows_;
  std::vector<float> patches_;  // of the image being encoded
  std::vector<float> scores_;   // of the sequence being sampled
  std::vector<ChosenToken> chosen_;
};

// at::set_num_threads() would fix the number for the matrix library, whatever ThreadScope says.
void settle_libtorch_threads() {
  static const bool kOnce = [] {
    at::set_num_interop_threads(1);
    return true;
  }();
  (void)kOnce;
}

template <class T>
std::unique_ptr<ModelRunner> make(const QwenConfig& config, const TensorTable& tensors,
                                  const RunnerOptions& options, const ProgressTick& tick) {
  const WeightLoader weights(tensors, kTorchType<T>, tick);
  return std::make_unique<QwenRunner<T>>(config, options, weights);
}

}  // namespace

Result<std::unique_ptr<ModelRunner>> make_qwen_runner(const QwenConfig& config,
                                                      const TensorTable& tensors,
                                                      const RunnerOptions& options,
                                                      const ProgressTick& tick) {
  if (options.devices != std::vector<Device>{Device{}})
    return Error(Code::kUnsupported, "this version runs a model on one CPU device only");
  return torch_guard("loading the model", [&]() -> Result<std::unique_ptr<ModelRunner>> {
    const c10::InferenceMode no_grad;
    settle_libtorch_threads();
    const ThreadScope scope(options.threads);
    return options.bf16 ? make<Bf16>(config, tensors, options, tick)
                        : make<float>(config, tensors, options, tick);
  });
}

}  // namespace facet
