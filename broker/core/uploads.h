// Images on their way in: chunks into the ring's ingest arena, before their generate.
#pragma once

#include "broker/core/core_state.h"
#include "broker/core/events.h"

namespace facet::core {

void handle_put(CoreState& s, const ClientPut& put);

// The generate of an upload was refused: its slots are given back, and until an image begins again
// a repeated generate gets the same answer (the first may still be under way to the client).
void refuse_try(CoreState& s, const RequestId& id, const Refused& why);
// Why the upload's try was refused, if it was.
std::optional<Refused> refused_try(const CoreState& s, const RequestId& id);
// Forgets an upload and gives its slots back.
void drop_upload(CoreState& s, const RequestId& id);
// Hands the images of a complete upload over: the caller owns the slots from now on.
std::vector<UploadImage> take_upload(CoreState& s, const RequestId& id);
void run_upload_timers(CoreState& s);

// Why image `index` is missing when generate comes; whose fault it may be decides the code.
Refused missing_image(const CoreState& s, const RequestId& id, std::uint32_t index);

}  // namespace facet::core
