#include "broker/core/poison.h"

#include <algorithm>
#include <optional>

#include "broker/core/images.h"
#include "broker/core/requests.h"
#include "broker/core/rules.h"
#include "broker/core/workers.h"

namespace facet::core {
namespace {

// The worker held back already, or the one that will be empty soonest.
std::optional<std::uint32_t> worker_for_suspect(const CoreState& s) {
  std::optional<std::uint32_t> best;
  for (std::uint32_t i = 0; i < s.workers.size(); ++i) {
    const Worker& worker = s.workers[i];
    if (worker.status.state != WorkerState::kReady || worker.status.is_draining) continue;
    if (worker.status.held_for_suspect) return i;
    if (!best || worker.assignments.size() < s.workers[*best].assignments.size()) best = i;
  }
  return best;
}

void release_workers(CoreState& s) {
  for (Worker& worker : s.workers) worker.status.held_for_suspect = false;
}

}  // namespace

void dispatch_suspect(CoreState& s) {
  if (s.exposed) return;
  if (s.ready[1].empty()) {
    release_workers(s);
    return;
  }
  const auto index = worker_for_suspect(s);
  if (!index) return;
  Worker& worker = s.workers[*index];
  worker.status.held_for_suspect = true;
  if (!worker.assignments.empty() && rule_holds(Rule::kSuspectAlone)) return;
  s.exposed = *index;
  dispatch_to(s, *find_request(s, s.ready[1].begin()->second), *index, true);
}

void end_exposure(CoreState& s, std::uint32_t worker) {
  if (s.exposed != worker) return;
  s.exposed.reset();
  s.workers[worker].status.held_for_suspect = false;
}

void strike(CoreState& s, Request& r, bool was_solo) {
  // One write: a death counts once, whenever this broker may die.
  if (rule_holds(Rule::kStrikes)) ++r.progress.strikes;
  forget_worker(s, r);
  if (!rule_holds(Rule::kStrikes)) return;
  release_pixels(s, r);  // its turn may be far off
  if (!was_solo || !rule_holds(Rule::kSoloDeathConvicts)) return;
  ++s.counters.quarantined;
  log(s, LogLine::Level::kError,
      "request " + r.id.hex() + " is quarantined: it ended " + std::to_string(r.progress.strikes) +
          " workers");
  fail(s, r, Code::kQuarantined,
       "this request ended " + std::to_string(r.progress.strikes) +
           " workers, the last one while it ran alone, and is not tried again");
}

}  // namespace facet::core
