// The bound on what the broker may take from the host.
#pragma once

#include <cstdint>

#include "common/base/result.h"

namespace facet {

// Of private memory, stacks included; what is shared (ring, ledger) does not count. Beyond it
// ZeroMQ cuts the connection whose frame it has no room for, or it or operator new aborts: that
// costs clients a reconnection and nothing else. Without effect under a sanitizer, whose shadow
// memory is private, too.
Status limit_memory(std::uint64_t bytes);

}  // namespace facet
