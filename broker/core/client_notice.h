// What a client can be told by the core, and how the core names a client.
#pragma once

#include <cstdint>
#include <variant>

#include "common/protocol/messages.h"

namespace facet {

// One connection of a client. Given by the service, never 0, never used twice.
using ClientToken = std::uint64_t;

using ClientNotice = std::variant<Accepted, Refused, Tokens, Done, Keepalive>;

}  // namespace facet
