// How the broker chooses a worker for a request: broker.dispatch. The rules themselves are in
// broker/core/dispatch_policy.h.
#pragma once

#include <cstdint>

namespace facet {

enum class DispatchPolicy : std::uint8_t {
  kLeastLoaded,       // fewest outstanding tokens
  kRoundRobin,        // one after the other
  kLeastConnections,  // fewest outstanding requests
  kWeighted,          // turns in proportion to measured speed
  kPredictedTime,     // the one that will have it done first
};

}  // namespace facet
