// Which request goes to which worker.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "broker/core/core_state.h"

namespace facet::core {

struct WorkerLoad {
  bool can_take = false;     // ready, not held for a suspect, credit left
  std::uint64_t tokens = 0;  // outstanding, estimated
  std::uint32_t outstanding = 0;
};

// The least loaded: fewest outstanding tokens, then fewest requests, then the lowest index. Pure.
std::optional<std::uint32_t> pick_worker(std::span<const WorkerLoad> loads);

// Dispatches what is ready, in queue order, while there is credit; then the suspects' turn.
void dispatch_ready(CoreState& s);

}  // namespace facet::core
