// Which request goes to which worker.
#pragma once

#include "broker/core/core_state.h"

namespace facet::core {

// Dispatches what is ready, in queue order, while there is credit, each to the worker that the
// policy picks; before them the suspects' turn.
void dispatch_ready(CoreState& s);

}  // namespace facet::core
