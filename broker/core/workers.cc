#include "broker/core/workers.h"

#include <algorithm>
#include <utility>

#include "broker/core/cursors.h"
#include "broker/core/leases.h"
#include "broker/core/poison.h"
#include "broker/core/requests.h"
#include "broker/core/rules.h"
#include "broker/core/takeover.h"
#include "broker/core/worker_steps.h"
#include "common/base/crash_point.h"

namespace facet::core {
namespace {

bool is_alive(const Worker& worker) {
  return worker.status.state == WorkerState::kStarting ||
         worker.status.state == WorkerState::kReady;
}

void requeue_after_death(CoreState& s, const AssignmentKey& key, const Assignment& assignment,
                         bool own_fault) {
  if (!assignment.is_current) return;
  Request& r = *find_request(s, key.id);
  const Handling handling(s, r.record);
  if (own_fault) {
    strike(s, r, assignment.is_solo);
  } else {
    forget_worker(s, r);
  }
  if (r.is_unfinished()) enqueue(s, r);
}

// The incarnation is over: its requests go on elsewhere; what it holds waits for its reaping.
void bury(CoreState& s, std::uint32_t index, bool own_fault, bool reported) {
  Worker& worker = s.workers[index];
  Grave grave;
  grave.death_reported = reported;
  grave.leases = std::exchange(worker.former_leases, {});
  worker.is_former = false;
  auto assignments = std::exchange(worker.assignments, {});
  worker.status.state = WorkerState::kDead;
  worker.status.outstanding_tokens = 0;
  worker.status.num_running = 0;
  for (auto& [key, assignment] : assignments) {
    if (assignment.pixels == 0) continue;
    if (rule_holds(Rule::kFreeAfterReap)) {
      grave.leases.push_back(assignment.pixels);
    } else {
      unhold_lease(s, assignment.pixels);
    }
  }
  s.graves.emplace(std::pair(index, worker.status.incarnation), std::move(grave));
  // A quarantined request must not look for its assignment at a buried worker.
  for (auto& [key, assignment] : assignments) {
    if (assignment.is_current) set_phase(s, *find_request(s, key.id), Phase::kDecoding);
  }
  end_exposure(s, index);
  worker.status.held_for_suspect = false;
  for (auto& [key, assignment] : assignments) requeue_after_death(s, key, assignment, own_fault);
}

bool is_known(const CoreState& s, std::uint32_t index) {
  return index < s.workers.size();
}

bool is_of_another_epoch(CoreState& s, std::uint64_t epoch) {
  if (epoch == s.ledger.epoch() || !rule_holds(Rule::kEpochFence)) return false;
  ++s.counters.stale_dropped;
  return true;
}

// What it said is in the ledger. At once when a sequence has ended: its output is kept until then.
void acknowledge(CoreState& s, std::uint32_t index, const Step& step) {
  Worker& worker = s.workers[index];
  const bool has_end = std::any_of(step.updates.begin(), step.updates.end(),
                                   [](const SequenceUpdate& update) { return update.ended; });
  if (++worker.steps_unacked < s.limits.steps_per_ack && !has_end) return;
  worker.steps_unacked = 0;
  const std::uint64_t ahead = rule_holds(Rule::kAckCommitted) ? 0 : 1;
  s.out.push_back(SendAck{index, worker.status.incarnation, {step.step + ahead}});
}

}  // namespace

void condemn(CoreState& s, std::uint32_t index, std::string why) {
  Worker& worker = s.workers[index];
  ++s.counters.protocol_kills;
  log(s, LogLine::Level::kError, "worker " + std::to_string(index) + " is ended: " + why);
  s.out.push_back(KillWorker{index, worker.status.incarnation, std::move(why)});
  bury(s, index, false, false);
}

void abandon_assignment(CoreState& s, Request& r) {
  Worker& worker = s.workers[r.worker];
  Assignment& assignment = worker.assignments.at({r.id, r.progress.attempts});
  assignment.is_current = false;
  // One of a former broker's that has not said hello is told then.
  if (worker.status.state != WorkerState::kReady) return;
  s.out.push_back(SendCancel{r.worker, worker.status.incarnation, {r.id, r.progress.attempts}});
}

void forget_worker(CoreState& s, Request& r) {
  r.progress.worker = 0;
  r.progress.is_solo = 0;
  r.progress.incarnation = 0;
  s.ledger.set_progress(r.record, r.progress);
}

void worker_started(CoreState& s, const WorkerStarted& started) {
  if (!is_known(s, started.worker)) return;
  Worker& worker = s.workers[started.worker];
  if (started.incarnation <= worker.status.incarnation) {
    ++s.counters.stale_dropped;
    return;
  }
  if (is_alive(worker)) bury(s, started.worker, false, false);
  worker.status.state = WorkerState::kStarting;
  worker.status.incarnation = started.incarnation;
  worker.status.pid = started.pid;
  worker.status.credits = 0;
  worker.status.is_settled = false;
  worker.has_stepped = false;
  worker.steps_unacked = 0;
  worker.is_told_to_end = false;
  worker.status.is_draining = false;
  worker.speed = {};
  worker.tokens_done = 0;
  if (auto early = std::exchange(worker.early_hello, std::nullopt)) worker_hello(s, *early);
}

void worker_hello(CoreState& s, const WorkerHello& event) {
  const Hello& hello = event.hello;
  if (!is_known(s, hello.worker)) return;
  if (is_of_another_epoch(s, event.epoch)) return;
  Worker& worker = s.workers[hello.worker];
  if (hello.incarnation > worker.status.incarnation) {
    worker.early_hello = event;  // the supervisor's word is under way on another socket
    return;
  }
  if (hello.incarnation != worker.status.incarnation || !is_alive(worker)) {
    ++s.counters.stale_dropped;
    return;
  }
  if (worker.status.state == WorkerState::kReady) {
    condemn(s, hello.worker, "a second hello: its connection broke");
    return;
  }
  if (!hello.held.empty() && !worker.is_former) {
    condemn(s, hello.worker, "hello with sequences, and it never served a broker");
    return;
  }
  worker.status.state = WorkerState::kReady;
  worker.status.credits = std::max(hello.credits, 1u);
  worker.status.model = hello.model;
  worker.status.is_settled = hello.is_settled;
  s.facts = hello.model;
  // Dispatches follow at the end of the step, so this comes first.
  s.out.push_back(SendResume{hello.worker, hello.incarnation, claim_held(s, hello)});
}

void worker_step(CoreState& s, const WorkerStep& event) {
  if (!is_known(s, event.worker)) return;
  Worker& worker = s.workers[event.worker];
  const Step& step = event.step;
  if (is_of_another_epoch(s, event.epoch)) return;
  const bool is_stale =
      step.incarnation != worker.status.incarnation || worker.status.state != WorkerState::kReady;
  if (is_stale && rule_holds(Rule::kIncarnationFence) && rule_holds(Rule::kFence)) {
    ++s.counters.stale_dropped;
    return;
  }
  if (!worker.has_stepped) {
    worker.has_stepped = true;
    s.out.push_back(WorkerFirstStep{event.worker, step.incarnation});
  }
  const std::uint32_t running = std::max(worker.status.num_running, step.num_running);
  worker.status.num_running = step.num_running;
  worker.status.kv_blocks_free = step.kv_blocks_free;
  worker.status.kv_blocks_total = step.kv_blocks_total;
  worker.status.kv_blocks_cached = step.kv_blocks_cached;
  worker.status.is_settled = step.is_settled;
  worker.status.idle_gap_ns = step.idle_gap_ns;
  for (const SequenceUpdate& update : step.updates) {
    if (!apply_update(s, event.worker, update)) return;  // condemned: the rest is not believed
  }
  const std::uint64_t done = std::exchange(worker.tokens_done, 0);
  worker.speed.add(s.now, running, done);
  s.throughput.add(s.now, 1, done);
  acknowledge(s, event.worker, step);
}

void worker_unreachable(CoreState& s, const WorkerUnreachable& lost) {
  if (!is_known(s, lost.worker)) return;
  const Worker& worker = s.workers[lost.worker];
  if (worker.status.incarnation != lost.incarnation || !is_alive(worker)) return;
  condemn(s, lost.worker, "a message to it could not be sent");
}

void worker_dead(CoreState& s, const WorkerDead& dead) {
  if (!is_known(s, dead.worker)) return;
  Worker& worker = s.workers[dead.worker];
  const auto count = [&] {
    if (worker.is_told_to_end && dead.exit_code == 0) {
      ++worker.status.restarts;
      return;
    }
    ++worker.status.deaths;
    if (dead.own_fault) ++worker.status.own_fault_deaths;
    worker.status.exit_code = dead.exit_code;
  };
  const auto grave = s.graves.find({dead.worker, dead.incarnation});
  if (grave != s.graves.end()) {  // condemned before; the fault was counted as the worker's
    if (!std::exchange(grave->second.death_reported, true)) count();
    return;
  }
  if (worker.status.incarnation != dead.incarnation || !is_alive(worker)) {
    ++s.counters.stale_dropped;
    return;
  }
  count();
  FACET_CRASH_POINT("death.received");
  bury(s, dead.worker, dead.own_fault, true);
  FACET_CRASH_POINT("death.requeued");
}

void worker_reaped(CoreState& s, const WorkerReaped& reaped) {
  if (!is_known(s, reaped.worker)) return;
  Worker& worker = s.workers[reaped.worker];
  const bool is_current = worker.status.incarnation == reaped.incarnation;
  if (is_current && is_alive(worker)) bury(s, reaped.worker, false, true);
  const auto grave = s.graves.find({reaped.worker, reaped.incarnation});
  if (grave == s.graves.end()) return;
  FACET_CRASH_POINT("reap.received");
  for (LeaseId lease : grave->second.leases) unhold_lease(s, lease);
  s.graves.erase(grave);
  FACET_CRASH_POINT("reap.freed");
  if (is_current && worker.status.state == WorkerState::kDead) {
    worker.status.state = WorkerState::kAbsent;
  }
}

void worker_disabled(CoreState& s, const WorkerDisabled& disabled) {
  if (!is_known(s, disabled.worker)) return;
  Worker& worker = s.workers[disabled.worker];
  if (is_alive(worker)) bury(s, disabled.worker, false, true);
  worker.status.state = WorkerState::kDisabled;
  worker.status.exit_code = disabled.exit_code;
  log(s, LogLine::Level::kError,
      "worker " + std::to_string(disabled.worker) + " will not be started again: exit code " +
          std::to_string(disabled.exit_code));
  if (!all_workers_disabled(s)) return;
  std::vector<RequestId> unfinished;
  for (const auto& [id, r] : s.requests) {
    if (r.is_unfinished()) unfinished.push_back(id);
  }
  for (const RequestId& id : unfinished) {
    fail(s, *find_request(s, id), Code::kClosed, "no worker can serve: " + why_disabled(s));
  }
}

bool all_workers_disabled(const CoreState& s) {
  return std::all_of(s.workers.begin(), s.workers.end(), [](const Worker& worker) {
    return worker.status.state == WorkerState::kDisabled;
  });
}

std::string why_disabled(const CoreState& s) {
  std::string why;
  for (std::size_t i = 0; i < s.workers.size(); ++i) {
    if (s.workers[i].status.state != WorkerState::kDisabled) continue;
    if (!why.empty()) why += ", ";
    why += "worker " + std::to_string(i) + " ended with exit code " +
           std::to_string(s.workers[i].status.exit_code);
  }
  return why;
}

}  // namespace facet::core
