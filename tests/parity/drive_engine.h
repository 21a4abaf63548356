// Runs sequences through an engine, with no daemon around it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "worker/engine/engine.h"

namespace facet {

struct DrivenAnswer {
  std::vector<std::int32_t> token_ids;
  std::string text;
  SequenceEnd end;
  bool images_released = false;
};

// Adds all specs (the id is set here), steps until they ended, and returns the answers in order.
// Aborts with a message when the engine refuses a sequence or fails; a preempted one is added again
// with its tokens, as the broker would.
std::vector<DrivenAnswer> drive(Engine& engine, std::vector<SequenceSpec> specs);

}  // namespace facet
