// A model without arithmetic. Its KV pool holds tokens and positions; the next token is a hash of
// the whole context, read back through the block table, so that a lost, stale or mixed-up block
// shows.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "worker/engine/input_processor.h"
#include "worker/engine/model_engine.h"
#include "worker/text/tokenizer.h"

namespace facet {

inline constexpr std::int32_t kFakeVocab = 280;  // bytes and the added tokens of the test tokenizer
inline constexpr std::int32_t kFakeImageToken = 279;  // stands for image rows

// What the model answers to a context: a byte 'a'..'z', or the end token now and then.
std::int32_t fake_next(std::span<const std::int64_t> context, std::int32_t eos);

class FakeRunner final : public ModelRunner {
 public:
  FakeRunner(const RunnerShape& shape, std::int32_t eos);
  const RunnerShape& shape() const override { return shape_; }
  Status encode(const ImagePatches& image, std::int32_t pool_row,
                const ProgressTick& tick) override;
  Result<LogitsView> forward(std::span<const SequenceChunk> chunks,
                             const ProgressTick& tick) override;

  // Set by tests.
  bool fail_encode = false;
  std::int32_t nan_for_chunks_of = 0;  // logits of chunks with this many tokens are NaN
  std::int32_t most_tokens = 0;        // of any forward so far
  std::int32_t most_chunks = 0;

 private:
  RunnerShape shape_;
  std::int32_t eos_;
  std::vector<std::int64_t> kv_;    // [blocks * block_tokens]: token and position
  std::vector<std::int64_t> rows_;  // encoder output
  std::vector<float> logits_;
};

// Text of the messages becomes one token a byte; an image `width` tokens with the value of its
// first pixel.
class FakeInput final : public InputProcessor {
 public:
  FakeInput();
  Result<Prompt> build(const GenerateRequest& request,
                       std::span<const ImageView> images) const override;
  Result<ImagePatches> preprocess(const ImageView& image, const ImageSpan& span,
                                  std::vector<float>& storage) const override;
  const Tokenizer& tokenizer() const override { return tokenizer_; }

 private:
  Tokenizer tokenizer_;
};

// The answer that an undisturbed model gives: no blocks, no batches.
std::vector<std::int32_t> expected_answer(const SequenceSpec& spec, std::int32_t eos);

struct FakeEngine {
  FakeRunner* runner = nullptr;  // owned by the engine
  std::int32_t eos = 0;
  std::unique_ptr<ModelEngine> engine;
};
struct FakeOptions {
  std::int32_t blocks = 64;
  std::int32_t block_tokens = 4;
  std::int32_t encoder_rows = 64;
  std::int32_t step_tokens = 32;
  std::int32_t lanes = 8;
  std::uint32_t max_model_len = 200;
};
FakeEngine make_fake_engine(const FakeOptions& options);

SequenceSpec text_spec(const std::string& text, std::uint32_t max_tokens);
// pixel[0] and [1]: the image's value. The pixels must outlive the spec.
void add_image(SequenceSpec& spec, const std::uint8_t* pixel, std::uint32_t tokens);

}  // namespace facet
