#include "worker/model/qwen2_5_vl/runner.h"

#include <ATen/Parallel.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>

#include "common/base/check.h"
#include "worker/model/kv_pool.h"
#include "worker/model/qwen2_5_vl/language.h"
#include "worker/model/qwen2_5_vl/vision.h"
#include "worker/model/torch_guard.h"
#include "worker/model/typed.h"
#include "worker/model/weights.h"

namespace facet {
namespace {

KvShape kv_shape(const QwenTextConfig& text, const RunnerShape& shape) {
  return {text.num_layers, shape.num_blocks, shape.block_tokens, text.num_kv_heads,
          text.head_dim()};
}

template <class T>
class QwenRunner final : public ModelRunner {
 public:
  QwenRunner(const QwenConfig& config, const RunnerOptions& options, const WeightLoader& weights)
      : shape_(options.shape),
        merge_unit_(config.vision.merge_unit()),
        vision_(config.vision, weights),
        language_(config,
                  {options.shape.max_step_tokens, options.shape.max_step_chunks,
                   options.context_tokens, options.threads},
                  weights),
        kv_(kv_shape(config.text, options.shape), kTorchType<T>),
        image_rows_(at::zeros({options.shape.encoder_rows, config.text.hidden_size},
                              kTorchType<T>)) {
    shape_.vocab_size = static_cast<std::int32_t>(config.text.vocab_size);
  }

  const RunnerShape& shape() const override { return shape_; }

  Status encode(const ImagePatches& image, std::int32_t pool_row,
                const ProgressTick& tick) override {
    return torch_guard("image encoder", [&]() -> Status {
      const c10::InferenceMode no_grad;
      const std::int64_t rows =
          static_cast<std::int64_t>(image.grid_height) * image.grid_width / merge_unit_;
      FACET_CHECK(pool_row >= 0 && pool_row + rows <= shape_.encoder_rows);
      vision_.encode(image, image_rows_.narrow(0, pool_row, rows), tick);
      return {};
    });
  }

  Result<LogitsView> forward(std::span<const SequenceChunk> chunks,
                             const ProgressTick& tick) override {
    return torch_guard("language model", [&]() -> Result<LogitsView> {
      const c10::InferenceMode no_grad;
      return language_.forward(chunks, image_rows_, kv_, tick);
    });
  }

 private:
  RunnerShape shape_;
  std::int64_t merge_unit_;
  QwenVision<T> vision_;
  QwenLanguage<T> language_;
  KvPool kv_;
  at::Tensor image_rows_;
};

// libtorch takes the second number once in a process.
void set_threads(int threads) {
  at::set_num_threads(threads);
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
    set_threads(options.threads);
    return options.bf16 ? make<Bf16>(config, tensors, options, tick)
                        : make<float>(config, tensors, options, tick);
  });
}

}  // namespace facet
