// A new broker takes over what ledger and ring hold, and the workers of the former one.
#pragma once

#include "broker/core/core_state.h"
#include "broker/core/events.h"

namespace facet::core {

void recover(CoreState& s, const Takeover& takeover);

}  // namespace facet::core
