// The seam between the scheduler and a model's arithmetic. The engine decides which tokens of which
// sequences run, and where their KV lies; a runner computes and chooses tokens. A test's runner
// computes a hash.
// A runner may work behind the caller's back: steps are launched and collected in order, and what
// it does is as if every encode() and launch() were carried out in the order of the calls. So
// blocks, encoder rows and lanes of a sequence that ended may be given to another one at once.
// All memory that these calls use is reserved when the runner is made.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "common/base/clock.h"
#include "common/base/result.h"
#include "worker/engine/engine.h"
#include "worker/image/rgb_image.h"

namespace facet {

class Sampler;

// Rotary position: temporal, height, width. Text and models without image positions repeat one
// value.
using Position = std::array<std::int32_t, 3>;

// What was reserved; fixed for the runner's life.
struct RunnerShape {
  std::int32_t num_blocks = 0;       // of the KV pool
  std::int32_t block_tokens = 0;     // token positions of one block
  std::int32_t encoder_rows = 0;     // image tokens that the encoder's output pool holds
  std::int32_t max_step_tokens = 0;  // of all chunks of one step
  std::int32_t max_step_chunks = 0;  // chunks of one step, and lanes
  std::int32_t vocab_size = 0;       // tokens that can be chosen: 0 .. vocab_size - 1
};

// An image to encode: its pixels as they came, and where its tokens go.
struct EncodeJob {
  RgbView pixels;                // borrowed during the call
  std::int32_t grid_height = 0;  // patches after the model's own resizing
  std::int32_t grid_width = 0;
  std::int32_t pool_row = 0;  // first of its rows in the encoder's output pool
  // Asked after the last read of the pixels; false: they may have been another request's. Empty:
  // they are safe.
  std::function<bool()> is_current;
};

// Encoder output that stands in for tokens of a chunk.
struct ImageRows {
  std::int32_t at = 0;  // first token, from the chunk's start
  std::int32_t count = 0;
  std::int32_t pool_row = 0;  // first row in the encoder's output pool
};

// As the only token of a chunk: the token chosen last for this lane. It was chosen by the step
// launched before this one, which the caller has not collected yet.
inline constexpr std::int32_t kChosenBefore = -1;

// Consecutive tokens of one sequence: a part of its prompt, or the token chosen last. A step has at
// most one chunk of a sequence.
struct SequenceChunk {
  std::span<const std::int32_t> token_ids;  // or {kChosenBefore}
  std::span<const Position> positions;      // as many
  std::int32_t context_tokens = 0;          // before these, already in the sequence's blocks
  std::span<const std::int32_t> blocks;     // hold context and chunk, in order
  std::span<const ImageRows> image_rows;
  // The sequence's own, below max_step_chunks, from its first chunk until it ends.
  std::int32_t lane = 0;
  bool starts_lane = false;  // the sequence's first chunk: what was kept for the lane is another's
  // Non-null: choose the token after the chunk's last one. That of a lane's first chunk with one
  // has observed the whole history. With steps in flight it lags behind afterwards, so a runner
  // with max_in_flight() above 1 keeps the lane's history itself.
  const Sampler* sampler = nullptr;
  std::uint32_t answer_index = 0;  // of that token: counter of its draw, compared with min_tokens
};

// What a request hears whose token could not be chosen.
inline constexpr const char* kNotFiniteMessage =
    "the model computed a logit that is not a finite number";

struct ChosenToken {
  std::int32_t token = 0;
  bool not_finite = false;  // a logit was infinite or not a number: no token was chosen
  // When the sampler asks for logprobs: the chosen token's, and as many of the most likely ones,
  // best first, the lower id first on ties.
  float logprob = 0.0F;
  std::vector<TokenLogprob> top;
};

// For comparing with references: shown each row of logits that a token is chosen from, fp32 values
// as the model computed them, in the order of collect(). Valid during the call.
using LogitsTap = std::function<void(std::span<const float>)>;

class ModelRunner {
 public:
  virtual ~ModelRunner() = default;
  virtual const RunnerShape& shape() const = 0;

  // How many steps may be launched and not collected. 1: launch() does all the work.
  virtual int max_in_flight() const { return 1; }

  // From here on it allocates nothing on its device any more.
  virtual bool is_settled() const { return true; }

  // As Engine::idle_gap().
  virtual Nanos idle_gap() const { return 0; }

  // Runs the encoder over the images that begin in the step launched next, together if it can:
  // their tokens land in the output pool. One status each; a failed one fails alone (kCorrupt when
  // it was not current). The pixels are not read after the return. An Error: as of launch().
  virtual Result<std::vector<Status>> encode(std::span<const EncodeJob> jobs,
                                             const ProgressTick& tick) = 0;

  // Computes all chunks in one pass, writes their keys and values into their blocks, and chooses
  // tokens. Reads `chunks` and what they point to during the call only. An error means that the
  // engine cannot go on: what a request may do wrong is refused before.
  virtual Status launch(std::span<const SequenceChunk> chunks, const ProgressTick& tick) = 0;

  // Waits for the oldest launched step. Its tokens in the order of the chunks that had a sampler;
  // valid until the next collect().
  virtual Result<std::span<const ChosenToken>> collect() = 0;
};

}  // namespace facet
