// The seam between the scheduler and a model's arithmetic. The engine decides which tokens of which
// sequences run, and where their KV lies; a runner computes. A test's runner computes a hash.
// All memory that these calls use is reserved when the runner is made.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "common/base/result.h"
#include "worker/engine/engine.h"

namespace facet {

// Rotary position: temporal, height, width. Text and models without image positions repeat one
// value.
using Position = std::array<std::int32_t, 3>;

// What was reserved; fixed for the runner's life.
struct RunnerShape {
  std::int32_t num_blocks = 0;       // of the KV pool
  std::int32_t block_tokens = 0;     // token positions of one block
  std::int32_t encoder_rows = 0;     // image tokens that the encoder's output pool holds
  std::int32_t max_step_tokens = 0;  // of all chunks of one forward()
  std::int32_t max_step_chunks = 0;  // chunks, and logit rows, of one forward()
  std::int32_t vocab_size = 0;       // width of a row of logits
};

// An image after the model's own preprocessing: rows of patch values in the order that the model's
// encoder takes them.
struct ImagePatches {
  std::span<const float> values;  // [grid_height * grid_width, values of a patch]
  std::int32_t grid_height = 0;   // patches
  std::int32_t grid_width = 0;
};

// Encoder output that stands in for tokens of a chunk.
struct ImageRows {
  std::int32_t at = 0;  // first token, from the chunk's start
  std::int32_t count = 0;
  std::int32_t pool_row = 0;  // first row in the encoder's output pool
};

// Consecutive tokens of one sequence: a part of its prompt, or the token chosen last.
struct SequenceChunk {
  std::span<const std::int32_t> token_ids;
  std::span<const Position> positions;   // as many
  std::int32_t context_tokens = 0;       // before these, already in the sequence's blocks
  std::span<const std::int32_t> blocks;  // hold context and chunk, in order
  std::span<const ImageRows> image_rows;
  bool wants_logits = false;  // of its last token
};

// Rows in the order of the chunks that wanted them. Values are fp32, rounded to the dtype the model
// computes in. Valid until the next forward().
struct LogitsView {
  const float* data = nullptr;
  std::int32_t rows = 0;
  std::int32_t width = 0;

  std::span<const float> row(std::int32_t index) const {
    return {data + static_cast<std::size_t>(index) * static_cast<std::size_t>(width),
            static_cast<std::size_t>(width)};
  }
};

class ModelRunner {
 public:
  virtual ~ModelRunner() = default;
  virtual const RunnerShape& shape() const = 0;

  // Runs the encoder over one image; its tokens land in the output pool from `pool_row` on.
  virtual Status encode(const ImagePatches& image, std::int32_t pool_row,
                        const ProgressTick& tick) = 0;

  // Computes all chunks in one pass and writes their keys and values into their blocks. An error
  // means that the engine cannot go on: what a request may do wrong is refused before.
  virtual Result<LogitsView> forward(std::span<const SequenceChunk> chunks,
                                     const ProgressTick& tick) = 0;
};

}  // namespace facet
