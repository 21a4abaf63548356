// What is at a worker: the beginning and the end of an assignment, and the places that are free.
#pragma once

#include "broker/core/core_state.h"

namespace facet::core {

// Tokens that the request may still generate.
std::uint64_t remaining_tokens(const CoreState& s, const Request& r);

// The worker has this sequence from now on. Where there was nothing to do before, its speed and
// that of all together are measured from now on.
Assignment& add_assignment(CoreState& s, Worker& worker, const AssignmentKey& key,
                           const Assignment& assignment);
// The request is at this worker from now on, as attempt r.progress.attempts.
Assignment& assign(CoreState& s, Request& r, std::uint32_t worker);
// The worker has let go of a dispatch.
void release_assignment(CoreState& s, Worker& worker, const AssignmentKey& key);

// Ready for what comes next in the queue, as far as its credits go.
bool takes_ordinary_work(const Worker& worker);
// How many requests the workers would take now.
std::uint32_t free_places(const CoreState& s);

}  // namespace facet::core
