// What a client can be told by the core, and how the core names a client.
#pragma once

#include <cstdint>
#include <variant>

#include "common/protocol/messages.h"
#include "common/protocol/put_fd.h"

namespace facet {

// One connection of a client. Given by the service, never 0, never used twice.
using ClientToken = std::uint64_t;

// Who is at the other end, as the kernel says: a user id.
using UserId = std::uint32_t;
inline constexpr UserId kUnknownUser = UINT32_MAX;

using ClientNotice = std::variant<Accepted, Refused, Tokens, Done, Keepalive, Stored>;

}  // namespace facet
