// A model without arithmetic. Its KV pool holds tokens and positions; the next token is a hash of
// the whole context, read back through the block table, so that a lost, stale or mixed-up block
// shows.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "worker/engine/answer.h"
#include "worker/engine/input_processor.h"
#include "worker/engine/model_engine.h"
#include "worker/engine/sampler.h"
#include "worker/text/tokenizer.h"

namespace facet {

inline constexpr std::int32_t kFakeVocab = 280;  // bytes and the added tokens of the test tokenizer
inline constexpr std::int32_t kFakeImageToken = 279;  // stands for image rows

// What the model thinks of a context: bytes 'a'..'z' are likely, and now and then the end token is
// likelier than all of them.
std::vector<float> fake_logits(std::span<const std::int64_t> context, std::int32_t eos);

// Chooses tokens as a device would: from state of its own lanes, when it has steps in flight.
class FakeRunner final : public ModelRunner {
 public:
  FakeRunner(const RunnerShape& shape, std::int32_t eos, int max_in_flight);
  const RunnerShape& shape() const override { return shape_; }
  int max_in_flight() const override { return max_in_flight_; }
  Result<std::vector<Status>> encode(std::span<const EncodeJob> jobs,
                                     const ProgressTick& tick) override;
  Status launch(std::span<const SequenceChunk> chunks, const ProgressTick& tick) override;
  Result<std::span<const ChosenToken>> collect() override;

  // Set by tests.
  bool fail_encode = false;
  int fail_after_steps = -1;  // launched; the device is broken from then on, as after its fault
  bool fails_when_collected = false;   // and says so there, not when a step is launched
  std::int32_t nan_for_chunks_of = 0;  // logits of chunks with this many tokens are NaN
  // Seen by tests.
  std::int32_t most_tokens = 0;  // of any step so far
  std::int32_t most_chunks = 0;
  int most_in_flight = 0;
  int num_steps = 0;
  int num_encoded = 0;        // images
  int num_adopted = 0;        // tokens that sequences began with
  int num_chosen_before = 0;  // chunks whose token the host did not know

 private:
  static constexpr const char* kBroken = "the device is broken";
  bool is_broken() const { return fail_after_steps >= 0 && num_steps >= fail_after_steps; }

  // What a device keeps of a lane.
  struct Lane {
    bool is_taken = false;
    std::int32_t num_tokens = 0;  // in its blocks
    std::int32_t last = -1;       // chosen by the step launched before
    std::optional<Sampler> sampler;
  };
  std::int64_t& slot(const SequenceChunk& chunk, std::int32_t at);
  void write(const SequenceChunk& chunk, Lane& lane);
  ChosenToken choose(const SequenceChunk& chunk, Lane& lane);

  RunnerShape shape_;
  std::int32_t eos_;
  int max_in_flight_;
  std::vector<std::int64_t> kv_;    // [blocks * block_tokens]: token and position
  std::vector<std::int64_t> rows_;  // encoder output
  std::vector<Lane> lanes_;
  std::deque<std::vector<ChosenToken>> in_flight_;
  std::vector<ChosenToken> collected_;
  std::vector<float> logits_, scratch_;
};

// Text of the messages becomes one token a byte; an image `width` tokens with the value of its
// first pixel.
class FakeInput final : public InputProcessor {
 public:
  FakeInput();
  Result<Prompt> build(const GenerateRequest& request,
                       std::span<const ImageView> images) const override;
  const Tokenizer& tokenizer() const override { return tokenizer_; }

 private:
  Tokenizer tokenizer_;
};

// The answer that an undisturbed model gives: no blocks, no batches.
struct ExpectedAnswer {
  std::vector<std::int32_t> ids;
  std::string text;
  std::vector<TokenLogprob> logprobs;
  SequenceEnd::Kind end = SequenceEnd::Kind::kLength;
};
ExpectedAnswer expected(const SequenceSpec& spec, std::int32_t eos);
inline std::vector<std::int32_t> expected_answer(const SequenceSpec& spec, std::int32_t eos) {
  return expected(spec, eos).ids;
}

struct FakeEngine {
  FakeRunner* runner = nullptr;  // owned by the engine
  std::int32_t eos = 0;
  std::shared_ptr<Nanos> now = std::make_shared<Nanos>(0);  // what the engine's clock shows
  std::unique_ptr<ModelEngine> engine;
};
struct FakeOptions {
  std::int32_t blocks = 64;
  std::int32_t block_tokens = 4;
  std::int32_t encoder_rows = 64;
  std::int32_t step_tokens = 32;
  std::int32_t lanes = 8;
  std::uint32_t max_model_len = 200;
  int max_in_flight = 1;
  bool prefix_cache = true;
};
FakeEngine make_fake_engine(const FakeOptions& options);

SequenceSpec text_spec(const std::string& text, std::uint32_t max_tokens);
// pixel[0] and [1]: the image's value. The pixels must outlive the spec.
void add_image(SequenceSpec& spec, const std::uint8_t* pixel, std::uint32_t tokens);

}  // namespace facet
