// Accepting or refusing a generate request, at once.
#pragma once

#include "broker/core/core_state.h"
#include "broker/core/events.h"

namespace facet::core {

void handle_generate(CoreState& s, ClientGenerate generate);

// What dispatch expects the request to cost, and the queue key's group; also used by recovery.
std::uint64_t estimate_prompt(const CoreState& s, const GenerateRequest& request,
                              std::span<const LedgerImage> images);

}  // namespace facet::core
