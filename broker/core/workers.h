// Workers: hello, steps behind the fence of (incarnation, attempt, index), deaths, reaping.
#pragma once

#include <string>

#include "broker/core/core_state.h"
#include "broker/core/events.h"

namespace facet::core {

void worker_started(CoreState& s, const WorkerStarted& started);
void worker_hello(CoreState& s, const WorkerHello& event);
void worker_step(CoreState& s, const WorkerStep& step);
void worker_unreachable(CoreState& s, const WorkerUnreachable& lost);
void worker_dead(CoreState& s, const WorkerDead& dead);
void worker_reaped(CoreState& s, const WorkerReaped& reaped);
void worker_disabled(CoreState& s, const WorkerDisabled& disabled);

// The request no longer waits for its assignment (cancel, timeout): tells the worker to stop it.
// What the assignment holds stays held until the worker ends it or is reaped.
void abandon_assignment(CoreState& s, Request& r);

// An unfinished request has left its worker, which the ledger learns, too.
void forget_worker(CoreState& s, Request& r);

bool all_workers_disabled(const CoreState& s);
std::string why_disabled(const CoreState& s);

}  // namespace facet::core
