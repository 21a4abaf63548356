// The part of `generate` that the ledger and `dispatch` carry too.
#pragma once

#include "common/protocol/messages.h"
#include "common/protocol/wire_reader.h"
#include "common/protocol/wire_writer.h"

namespace facet::wire {

inline constexpr std::uint32_t kRequestBodyKeys = 5;

// Writes messages, images, params, deadline_ms, priority into a map that is open.
void write_request_body(MapWriter& map, const GenerateRequest& request);

// Reads and checks them.
void read_request_body(MapReader& map, GenerateRequest& request);

}  // namespace facet::wire
