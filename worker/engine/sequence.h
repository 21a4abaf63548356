// What the scheduler knows of one sequence.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/protocol/messages.h"
#include "worker/engine/content_key.h"
#include "worker/engine/model_runner.h"

namespace facet {

// An image of a prompt: which tokens it stands for.
struct ImageSpan {
  std::int32_t image = 0;  // index of the request's image
  std::int32_t first = 0;  // its first token in the prompt
  std::int32_t count = 0;
  std::int32_t grid_height = 0;  // patches
  std::int32_t grid_width = 0;
  ContentKey key = {};  // none: its output and what depends on it is not kept
};

struct Prompt {
  std::vector<std::int32_t> token_ids;  // images expanded
  std::vector<Position> positions;      // as many
  std::int32_t position_delta = 0;      // position of an answer's token minus its index
  std::vector<ImageSpan> images;        // by rising first token
};

struct Sequence {
  static constexpr std::int32_t kNotHeld = -1;

  Prompt prompt;
  Priority priority = Priority::kInteractive;
  std::uint64_t arrival = 0;

  std::vector<std::int32_t> tokens;  // prompt, then answer
  std::vector<Position> positions;   // as many
  std::int32_t num_pending = 0;      // tokens of the answer being chosen by launched steps
  std::int32_t num_computed = 0;     // tokens whose KV is in the blocks once all launched steps ran
  std::int32_t lane = kNotHeld;
  bool lane_started = false;  // a chunk of it was launched on the lane
  std::vector<std::int32_t> blocks;
  std::vector<ContentKey> block_keys;  // of the first full blocks, as far as they were needed
  std::size_t num_remembered = 0;      // blocks whose content the pool was told, from the first on
  std::int32_t num_adopted = 0;        // tokens whose KV was there when it started
  // Per image: its first encoder row, kNotHeld before and after.
  std::vector<std::int32_t> image_rows;
  std::size_t num_encoded = 0;  // images encoded so far, in order

  // Starts with the prompt; `committed` are the answer's tokens of earlier attempts.
  Sequence(Prompt from, std::span<const std::int32_t> committed);
  void append(std::int32_t token);
  std::int32_t num_known() const { return static_cast<std::int32_t>(tokens.size()); }
  std::int32_t num_tokens() const { return num_known() + num_pending; }
  Position position_of_answer(std::int32_t token) const {
    const std::int32_t position = token + prompt.position_delta;
    return {position, position, position};
  }
  std::int32_t num_left() const { return num_tokens() - num_computed; }
  // Only the token chosen last is left, so one more position is all it needs.
  bool is_decoding() const {
    return num_left() == 1 && num_computed > 0 && num_encoded == prompt.images.size();
  }
  // Who goes first, and is preempted last.
  bool goes_before(const Sequence& other) const {
    return priority != other.priority ? priority < other.priority : arrival < other.arrival;
  }
};

}  // namespace facet
