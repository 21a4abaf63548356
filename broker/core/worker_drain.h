// Replacing a worker in order: it gets nothing new, ends what it holds, and is then told to end.
#pragma once

#include "broker/core/core_state.h"
#include "broker/core/events.h"

namespace facet::core {

void drain_worker(CoreState& s, const WorkerDrain& drain);
// Tells draining workers that hold nothing any more to end. What they said was read by then: their
// death finds nothing to run again.
void end_drained_workers(CoreState& s);

}  // namespace facet::core
