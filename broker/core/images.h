// Pixels: reserving pages for them, decode jobs, the decoder's life.
#pragma once

#include "broker/core/core_state.h"

namespace facet::core {

// Reserves pixels for waiting requests, oldest first, as far as workers will soon want them. All
// pixel runs of a request at once or none; when the oldest cannot have its own, nobody behind it is
// served before.
void reserve_pixels(CoreState& s);

void decoder_up(CoreState& s);
void decoder_reaped(CoreState& s);
// The oldest job's deadline; ends the decoder that missed it.
void run_decode_timer(CoreState& s);
void handle_decode_reply(CoreState& s, const DecodeReply& reply);

// Sends queued jobs while the decoder has room for them.
void pump_decoder(CoreState& s);

// Gives the pixels up: a later dispatch decodes again.
void release_pixels(CoreState& s, Request& r);

}  // namespace facet::core
