// What the core shows of itself, and the proof that nothing is lost.
#pragma once

#include "broker/core/core_state.h"

namespace facet::core {

CoreStatus make_status(const CoreState& s);
bool is_idle(const CoreState& s);
bool is_drained(const CoreState& s, Nanos now);
Status check_conservation(const CoreState& s);

}  // namespace facet::core
