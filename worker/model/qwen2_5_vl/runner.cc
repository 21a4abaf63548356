#include "worker/model/qwen2_5_vl/runner.h"

#include <c10/core/InferenceMode.h>

#include "common/base/check.h"
#include "worker/engine/qwen2_5_vl/cpu_memory.h"
#include "worker/engine/sampler.h"
#include "worker/image/qwen_patches.h"
#include "worker/model/host_arena.h"
#include "worker/model/kv_pool.h"
#include "worker/model/library_linear.h"
#include "worker/model/qwen2_5_vl/language.h"
#include "worker/model/qwen2_5_vl/vision.h"
#include "worker/model/thread_scope.h"
#include "worker/model/torch_guard.h"
#include "worker/model/torch_seal.h"
#include "worker/model/weights.h"

namespace facet {
namespace {

CpuLimits limits_of(const RunnerOptions& options) {
  CpuLimits limits;
  limits.item_bytes = options.bf16 ? 2 : 4;
  limits.library_products = options.library_products;
  limits.threads = options.threads;
  limits.step_tokens = options.shape.max_step_tokens;
  limits.step_chunks = options.shape.max_step_chunks;
  limits.context_tokens = options.context_tokens;
  limits.image_tokens = options.image_tokens;
  limits.encoder_rows = options.shape.encoder_rows;
  limits.kv_blocks = options.shape.num_blocks;
  limits.kv_block_tokens = options.shape.block_tokens;
  return limits;
}

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
  QwenRunner(const QwenConfig& config, const RunnerOptions& options, HostArena arena,
             const TensorTable& tensors, const ProgressTick& tick)
      : arena_(std::move(arena)),
        shape_(options.shape),
        image_settings_(options.image_settings),
        threads_(options.threads),
        logits_tap_(options.logits_tap),
        hidden_size_(config.text.hidden_size),
        vision_weights_(vision_weights(config.vision)),
        language_weights_(language_weights(config.text)),
        limits_(limits_of(options)),
        scratch_{arena_.take<float>(limits_.threads * thread_scratch(config)),
                 thread_scratch(config)},
        workspace_{arena_.take<std::byte>(workspace_size(config)),
                   static_cast<std::size_t>(workspace_size(config))},
        vision_(config, limits_, loader(options, tensors, tick), arena_, scratch_),
        language_(config, limits_, loader(options, tensors, tick), arena_, scratch_),
        kv_(kv_shape(config.text, options.shape), arena_),
        image_rows_(arena_.take<T>(limits_.encoder_rows * config.text.hidden_size)) {
    FACET_CHECK_MSG(arena_.used() == arena_.size(), "the memory plan counted a piece too many");
    if (limits_.library_products) limit_library_code();
    shape_.vocab_size = static_cast<std::int32_t>(config.text.vocab_size);
    chosen_.reserve(static_cast<std::size_t>(options.shape.max_step_chunks));
    scores_.reserve(static_cast<std::size_t>(config.text.vocab_size));
  }

  const RunnerShape& shape() const override { return shape_; }

  Result<std::vector<Status>> encode(std::span<const EncodeJob> jobs,
                                     const ProgressTick& tick) override {
    return torch_guard("image encoder", [&]() -> Result<std::vector<Status>> {
      std::vector<Status> done;
      vision_.begin();
      for (const EncodeJob& job : jobs) done.push_back(add_to_pass(job, tick));
      run_pass(tick);
      return done;
    });
  }

  // The whole step, in the caller's thread.
  Status launch(std::span<const SequenceChunk> chunks, const ProgressTick& tick) override {
    return torch_guard("language model", [&]() -> Status {
      double tokens = 0;
      for (const SequenceChunk& chunk : chunks)
        tokens += static_cast<double>(chunk.token_ids.size());
      LogitsView logits;
      {
        const c10::InferenceMode no_grad;
        const TorchSeal seal(workspace_);
        const ThreadScope scope(threads_for(tokens * language_weights_, threads_));
        logits = language_.forward(chunks, image_rows_, kv_, tick);
      }
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
  std::int64_t workspace_size(const QwenConfig& config) const {
    return static_cast<std::int64_t>(library_workspace_bytes(config, limits_));
  }

  WeightLoader<T> loader(const RunnerOptions& options, const TensorTable& tensors,
                         const ProgressTick& tick) {
    return {tensors, options.library_products ? Products::kLibrary : Products::kPanels, arena_,
            tick};
  }

  // Preprocesses an image straight into the pass; a full one is run before.
  Status add_to_pass(const EncodeJob& job, const ProgressTick& tick) {
    const QwenImagePlan plan = FACET_TRY(plan_qwen_image(job.pixels.size, image_settings_));
    FACET_CHECK(plan.grid_h == job.grid_height && plan.grid_w == job.grid_width);
    FACET_CHECK(job.pool_row >= 0 && job.pool_row + plan.num_tokens <= shape_.encoder_rows);
    T* out = image_rows_ + job.pool_row * hidden_size_;
    float* values = vision_.add(job.grid_height, job.grid_width, out);
    if (values == nullptr) {
      run_pass(tick);
      vision_.begin();
      values = vision_.add(job.grid_height, job.grid_width, out);
    }
    write_qwen_patches(job.pixels, image_settings_, plan,
                       {values, static_cast<std::size_t>(plan.num_floats())});
    tick(WorkerPhase::kEncode);
    if (!job.is_current || job.is_current()) return {};
    vision_.drop_last();
    return Error(Code::kCorrupt, "its slot was given to another request");
  }

  void run_pass(const ProgressTick& tick) {
    if (vision_.empty()) return;
    const c10::InferenceMode no_grad;
    const TorchSeal seal(workspace_);
    const auto patches = static_cast<double>(vision_.num_patches());
    const ThreadScope scope(threads_for(patches * vision_weights_, threads_));
    vision_.run(tick);
  }

  HostArena arena_;
  RunnerShape shape_;
  QwenImageSettings image_settings_;
  int threads_;
  LogitsTap logits_tap_;
  std::int64_t hidden_size_;
  double vision_weights_;    // multiplications of a patch
  double language_weights_;  // multiplications of a token
  CpuLimits limits_;
  Scratch scratch_;
  std::span<std::byte> workspace_;  // of libtorch
  QwenVision<T> vision_;
  QwenLanguage<T> language_;
  KvPool<T> kv_;
  T* image_rows_;              // [encoder_rows, hidden]
  std::vector<float> scores_;  // of the sequence being sampled
  std::vector<ChosenToken> chosen_;
};

template <class T>
Result<std::unique_ptr<ModelRunner>> make(const QwenConfig& config, const TensorTable& tensors,
                                          const RunnerOptions& options, const ProgressTick& tick) {
  HostArena arena = FACET_TRY(HostArena::reserve(arena_bytes(config, limits_of(options)), tick));
  return std::make_unique<QwenRunner<T>>(config, options, std::move(arena), tensors, tick);
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
    const ThreadScope scope(options.threads);
    install_torch_seal();
    return options.bf16 ? make<Bf16>(config, tensors, options, tick)
                        : make<float>(config, tensors, options, tick);
  });
}

}  // namespace facet
