// Which worker gets the next request. Pure: loads in, an index out.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "common/config/dispatch_policy.h"

namespace facet::core {

struct WorkerLoad {
  bool can_take = false;          // ready, not held for a suspect, credit left
  std::uint64_t tokens = 0;       // outstanding, estimated
  std::uint32_t outstanding = 0;  // requests
  double speed = 0.0;             // measured, see SpeedMeter; 0 = not measured yet
  bool has_lane = false;          // one more would run at once, not wait for another's end
};

// What is remembered from one choice to the next.
struct DispatchTurns {
  std::uint32_t next = 0;   // round robin: whose turn it is
  double time = 0.0;        // weighted: virtual time, the turn of the last one chosen
  std::vector<double> due;  // weighted: virtual time of each worker's next turn
};

// `tokens`: what the request is expected to cost. A worker without a measured speed counts with the
// mean of the measured ones. Ties go to the lowest index. Nothing when no worker can take it.
//   least loaded       with a free lane before without, then fewest tokens, then fewest requests:
//                      a worker whose many requests are all about to end has few tokens
//   least connections  fewest requests, then fewest tokens
//   round robin        the next one that can take it
//   weighted           start-time fair queueing: the earliest turn; each request moves its worker's
//                      turn on by tokens * mean speed / speed, and one that could take nothing
//                      saves up no turns
//   predicted time     smallest (outstanding tokens + tokens) / speed
std::optional<std::uint32_t> pick_worker(DispatchPolicy policy, std::span<const WorkerLoad> loads,
                                         std::uint64_t tokens, const DispatchTurns& turns);

// Remembers that `picked` got a request of `tokens`.
void take_turn(DispatchTurns& turns, std::span<const WorkerLoad> loads, std::uint32_t picked,
               std::uint64_t tokens);

}  // namespace facet::core
