#include "broker/core/worker_drain.h"

#include "common/base/crash_point.h"

namespace facet::core {

void drain_worker(CoreState& s, const WorkerDrain& drain) {
  if (drain.worker >= s.workers.size()) return;
  WorkerStatus& status = s.workers[drain.worker].status;
  if (status.incarnation != drain.incarnation) {
    ++s.counters.stale_dropped;
    return;
  }
  status.is_draining = true;
  FACET_CRASH_POINT("drain.received");
  // A suspect that waits for it to be empty waits for another one; one that runs on it goes on.
  if (s.exposed != drain.worker) status.held_for_suspect = false;
}

void end_drained_workers(CoreState& s) {
  for (std::uint32_t i = 0; i < s.workers.size(); ++i) {
    Worker& worker = s.workers[i];
    const WorkerStatus& status = worker.status;
    if (!status.is_draining || status.state != WorkerState::kReady) continue;
    if (worker.is_told_to_end || !worker.assignments.empty()) continue;
    worker.is_told_to_end = true;
    s.out.push_back(SendDrain{i, status.incarnation});
    FACET_CRASH_POINT("drain.telling");
  }
}

}  // namespace facet::core
