#include "broker/core/assignments.h"

#include <algorithm>

#include "broker/core/leases.h"
#include "broker/core/poison.h"
#include "broker/core/requests.h"
#include "common/base/check.h"

namespace facet::core {

std::uint64_t remaining_tokens(const CoreState& s, const Request& r) {
  return r.max_tokens - s.ledger.num_tokens(r.record);
}

Assignment& add_assignment(CoreState& s, Worker& worker, const AssignmentKey& key,
                           const Assignment& assignment) {
  if (worker.assignments.empty()) worker.speed.start(s.now);
  if (s.num_running == 0) s.throughput.start(s.now);
  worker.status.outstanding_tokens += assignment.prompt_tokens + assignment.remaining_tokens;
  return worker.assignments.emplace(key, assignment).first->second;
}

Assignment& assign(CoreState& s, Request& r, std::uint32_t worker) {
  Assignment assignment;
  assignment.prompt_tokens = r.prompt_estimate;
  assignment.remaining_tokens = remaining_tokens(s, r);
  Assignment& added = add_assignment(s, s.workers[worker], {r.id, r.progress.attempts}, assignment);
  set_phase(s, r, Phase::kRunning);
  r.worker = worker;
  return added;
}

void release_assignment(CoreState& s, Worker& worker, const AssignmentKey& key) {
  const auto found = worker.assignments.find(key);
  FACET_CHECK(found != worker.assignments.end());
  const Assignment assignment = found->second;
  worker.assignments.erase(found);
  worker.status.outstanding_tokens -= assignment.prompt_tokens + assignment.remaining_tokens;
  if (assignment.pixels != 0) unhold_lease(s, assignment.pixels);
  if (assignment.is_solo) {
    end_exposure(s, static_cast<std::uint32_t>(&worker - s.workers.data()));
  }
}

bool takes_ordinary_work(const Worker& worker) {
  const WorkerStatus& status = worker.status;
  return status.state == WorkerState::kReady && !status.is_draining && !status.held_for_suspect;
}

std::uint32_t free_places(const CoreState& s) {
  std::uint32_t free = 0;
  for (const Worker& worker : s.workers) {
    if (!takes_ordinary_work(worker)) continue;
    const auto taken = static_cast<std::uint32_t>(worker.assignments.size());
    free += worker.status.credits - std::min(worker.status.credits, taken);
  }
  return free;
}

}  // namespace facet::core
