// Leases: who still holds ring slots. Changes CoreState::leases and the ring's table.
#pragma once

#include <vector>

#include "broker/core/core_state.h"

namespace facet::core {

LeaseId make_lease(CoreState& s, std::vector<std::uint32_t> slots);
void hold_lease(CoreState& s, LeaseId lease);
// One more reader where one that holds it goes on, be it retired or not.
void hold_lease_again(CoreState& s, LeaseId lease);
// A holder has released it or was reaped. Frees the slots of a retired lease with the last holder.
void unhold_lease(CoreState& s, LeaseId lease);
// The request is done with it: no new reader starts; freed now if nobody holds it. Sets it to 0.
void retire_lease(CoreState& s, LeaseId& lease);

}  // namespace facet::core
