// Workers that outlive a broker. The ledger says which request is at which life of a worker; the
// new broker believes it until that worker says hello with what it holds, or dies, or is ended for
// its silence. Slots in the ring that such workers may still read stay leased just as long.
#pragma once

#include "broker/core/core_state.h"
#include "broker/core/events.h"

namespace facet::core {

// recovery: the living workers; then each unfinished request, to where it is, or into the queue;
// then the pixel slots that are found.
void take_over_workers(CoreState& s, const Takeover& takeover);
void place_request(CoreState& s, Request& r, const Takeover& takeover);
void inherit_pixels(CoreState& s);

// A worker's first hello: what of its sequences goes on, and from where. What it holds and nobody
// waits for is its own to drop; it stays an assignment until it has. What it should hold and does
// not was lost on the way and is dispatched again.
Resume claim_held(CoreState& s, const Hello& hello);

// Workers that did not say hello in time are ended.
void run_hello_timer(CoreState& s);

}  // namespace facet::core
