// What a worker says about one sequence. (incarnation is checked by the caller; attempt and index
// here.)
#pragma once

#include <string>

#include "broker/core/core_state.h"

namespace facet::core {

// False when the update broke the protocol and the worker was condemned.
bool apply_update(CoreState& s, std::uint32_t worker, const SequenceUpdate& update);

// Ends an incarnation that broke the protocol: KillWorker, and its requests go on at once.
void condemn(CoreState& s, std::uint32_t worker, std::string why);

}  // namespace facet::core
