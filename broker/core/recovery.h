// A new broker takes over what ledger and ring hold.
#pragma once

#include "broker/core/core_state.h"

namespace facet::core {

void recover(CoreState& s);

}  // namespace facet::core
