#include "broker/core/dispatch.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "broker/core/assignments.h"
#include "broker/core/images.h"
#include "broker/core/leases.h"
#include "broker/core/poison.h"
#include "broker/core/requests.h"
#include "broker/core/rules.h"
#include "broker/core/users.h"
#include "broker/core/workers.h"
#include "common/base/check.h"
#include "common/base/crash_point.h"

namespace facet::core {
namespace {

bool has_credit(const Worker& worker, std::uint32_t outstanding) {
  return outstanding < worker.status.credits || !rule_holds(Rule::kCredits);
}

std::vector<WorkerLoad> loads_of(const CoreState& s) {
  std::vector<WorkerLoad> loads;
  loads.reserve(s.workers.size());
  for (const Worker& worker : s.workers) {
    const auto outstanding = static_cast<std::uint32_t>(worker.assignments.size());
    loads.push_back({takes_ordinary_work(worker) && has_credit(worker, outstanding),
                     worker.status.outstanding_tokens, outstanding,
                     worker.speed.tokens_per_second(), outstanding < s.limits.worker_lanes});
  }
  return loads;
}

DispatchOrder dispatch_order(CoreState& s, const Request& r) {
  const RecordView record = s.ledger.view(r.record);
  DispatchOrder dispatch;
  dispatch.id = r.id;
  dispatch.attempt = r.progress.attempts;
  dispatch.body = record.body;
  dispatch.max_tokens = r.max_tokens;
  dispatch.deadline_ms = static_cast<std::uint32_t>(
      std::clamp<Nanos>((r.deadline - s.now) / kMillisecond, 1, UINT32_MAX));
  if (rule_holds(Rule::kCommittedCarried)) {
    dispatch.committed.assign(record.token_ids.begin(), record.token_ids.end());
  }
  if (r.pixels == 0) return dispatch;
  const Lease& lease = s.leases.at(r.pixels);
  for (std::size_t i = 0; i < lease.slots.size(); ++i) {
    const SlotRef ref = s.ring.ref(lease.slots[i]);
    dispatch.images.push_back({ref.slot, ref.generation, ref.offset, ref.width, ref.height,
                               r.images[i].content_hash_high, r.images[i].content_hash_low});
  }
  return dispatch;
}

}  // namespace

void dispatch_to(CoreState& s, Request& r, std::uint32_t index, bool solo) {
  FACET_CHECK(r.phase == Phase::kReady && r.images.empty() == (r.pixels == 0));
  const Handling handling(s, r.record);
  Worker& worker = s.workers[index];
  reach_round(s, r.key.round);
  ++r.progress.attempts;
  r.progress.dispatched = s.now;
  r.progress.worker = index;
  r.progress.is_solo = solo ? 1 : 0;
  r.progress.incarnation = worker.status.incarnation;
  s.ledger.set_progress(r.record, r.progress);
  if (r.pixels != 0) hold_lease(s, r.pixels);
  FACET_CRASH_POINT("dispatch.recorded");
  Assignment& assignment = assign(s, r, index);
  assignment.pixels = r.pixels;
  assignment.is_solo = solo;
  ++s.counters.dispatches;
  if (r.progress.attempts > 1) ++s.counters.retried;
  s.out.push_back(SendDispatch{index, worker.status.incarnation, dispatch_order(s, r)});
  if (!rule_holds(Rule::kPixelsHeldAtWorker) && r.pixels != 0) {
    unhold_lease(s, r.pixels);
    release_pixels(s, r);
    assignment.pixels = 0;
  }
}

void dispatch_ready(CoreState& s) {
  dispatch_suspect(s);
  if (s.ready[0].empty()) return;
  std::vector<WorkerLoad> loads = loads_of(s);
  while (!s.ready[0].empty()) {
    Request& r = *find_request(s, s.ready[0].begin()->second);
    const std::uint64_t tokens = r.prompt_estimate + remaining_tokens(s, r);
    const auto index = pick_worker(s.limits.dispatch, loads, tokens, s.turns);
    if (!index) return;
    take_turn(s.turns, loads, *index, tokens);
    dispatch_to(s, r, *index, false);
    const Worker& worker = s.workers[*index];
    WorkerLoad& load = loads[*index];
    load.tokens = worker.status.outstanding_tokens;
    ++load.outstanding;
    load.can_take = has_credit(worker, load.outstanding);
    load.has_lane = load.outstanding < s.limits.worker_lanes;
  }
}

}  // namespace facet::core
