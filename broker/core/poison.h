// Requests that end workers. After an own-fault death every request of that batch is a suspect. A
// suspect runs alone: on a worker that holds nothing else, one suspect at a time over all workers.
// An own-fault death then quarantines it; finishing clears it. Deaths from outside count nothing.
#pragma once

#include "broker/core/core_state.h"

namespace facet::core {

void dispatch_to(CoreState& s, Request& r, std::uint32_t worker, bool solo);  // dispatch.cc

// The next suspect, when none is running: holds a worker back until it is empty, then sends it.
void dispatch_suspect(CoreState& s);
// The suspect's assignment is over, whatever way.
void end_exposure(CoreState& s, std::uint32_t worker);
// A current assignment of a worker that died by its own fault.
void strike(CoreState& s, Request& r, bool was_solo);

}  // namespace facet::core
