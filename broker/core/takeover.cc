#include "broker/core/takeover.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "broker/core/assignments.h"
#include "broker/core/leases.h"
#include "broker/core/poison.h"
#include "broker/core/requests.h"
#include "broker/core/rules.h"
#include "broker/core/worker_steps.h"
#include "broker/core/workers.h"

namespace facet::core {
namespace {

bool has_former(const CoreState& s) {
  return std::any_of(s.workers.begin(), s.workers.end(),
                     [](const Worker& worker) { return worker.is_former; });
}

// The worker that has it, if it lives and nothing speaks against it.
std::optional<std::uint32_t> worker_of(const CoreState& s, const Request& r) {
  const RecordProgress& at = r.progress;
  if (at.incarnation == 0 || at.worker >= s.workers.size()) return std::nullopt;
  const Worker& worker = s.workers[at.worker];
  if (!worker.is_former || worker.status.incarnation != at.incarnation) return std::nullopt;
  const bool is_second_suspect = at.is_solo != 0 && s.exposed.has_value();
  return is_second_suspect ? std::nullopt : std::optional(at.worker);
}

bool died_by_own_fault(const Takeover& takeover, const RecordProgress& at) {
  if (!rule_holds(Rule::kVerdictsKept)) return false;
  return std::any_of(takeover.deaths.begin(), takeover.deaths.end(), [&](const WorkerDead& dead) {
    return dead.own_fault && dead.worker == at.worker && dead.incarnation == at.incarnation;
  });
}

// The worker does not have it; whoever waits for it is served elsewhere.
void let_go(CoreState& s, std::uint32_t index, const AssignmentKey& key) {
  Worker& worker = s.workers[index];
  if (!worker.assignments.at(key).is_current) return release_assignment(s, worker, key);
  Request& r = *find_request(s, key.id);
  const Handling handling(s, r.record);
  set_phase(s, r, Phase::kDecoding);  // no longer at the worker
  release_assignment(s, worker, key);
  forget_worker(s, r);
  enqueue(s, r);
}

// The assignment that this sequence is the work of; null: nobody waits for it.
Assignment* wanted(CoreState& s, std::uint32_t index, const HeldSequence& held) {
  Worker& worker = s.workers[index];
  Request* r = find_request(s, held.id);
  if (r == nullptr || !r->is_unfinished()) return nullptr;
  if (s.ledger.num_tokens(r->record) > held.num_tokens) return nullptr;  // not its tokens
  const auto found = worker.assignments.find({held.id, held.attempt});
  if (found == worker.assignments.end()) return nullptr;
  return found->second.is_current ? &found->second : nullptr;
}

// The slots that this sequence may read, held once more.
LeaseId hold_pixels(CoreState& s, const HeldSequence& held) {
  if (!held.reads_images || held.ended) return 0;
  const auto found = s.former_pixels.find(held.id);
  if (found == s.former_pixels.end() || !s.leases.contains(found->second)) return 0;
  hold_lease_again(s, found->second);
  return found->second;
}

// Stays an assignment until the worker has ended it, which it does when the answer to its hello
// does not name it.
void drop_unwanted(CoreState& s, std::uint32_t index, const HeldSequence& held) {
  Worker& worker = s.workers[index];
  const AssignmentKey key{held.id, held.attempt};
  const auto found = worker.assignments.find(key);
  if (found != worker.assignments.end() && (found->second.is_current || held.ended)) {
    let_go(s, index, key);
  }
  if (held.ended) return;
  const auto kept = worker.assignments.find(key);
  Assignment& unwanted =
      kept == worker.assignments.end() ? add_assignment(s, worker, key, {}) : kept->second;
  unwanted.is_current = false;
  if (rule_holds(Rule::kUnwantedHold)) unwanted.pixels = hold_pixels(s, held);
}

}  // namespace

void take_over_workers(CoreState& s, const Takeover& takeover) {
  for (const WorkerStarted& living : takeover.living) {
    worker_started(s, living);
    if (living.worker >= s.workers.size() || !living.may_hold) continue;
    s.workers[living.worker].is_former = true;
    s.hello_deadline = s.now + s.limits.hello_timeout;
  }
}

void place_request(CoreState& s, Request& r, const Takeover& takeover) {
  if (const auto index = worker_of(s, r)) {
    Assignment& assignment = assign(s, r, *index);
    if (r.progress.is_solo == 0 || !rule_holds(Rule::kSoloKept)) return;
    assignment.is_solo = true;
    s.exposed = *index;
    s.workers[*index].status.held_for_suspect = true;
    return;
  }
  if (r.progress.incarnation != 0) {
    if (died_by_own_fault(takeover, r.progress)) {
      strike(s, r, r.progress.is_solo != 0);
    } else {
      forget_worker(s, r);
    }
  }
  if (r.is_unfinished()) enqueue(s, r);
}

// One lease for each request's slots: of several attempts' the last reader frees all. Which of the
// former workers reads which slot only they can say, so each holds all until then.
void inherit_pixels(CoreState& s) {
  if (!has_former(s) || !rule_holds(Rule::kFormerHold)) return;
  std::unordered_map<RequestId, std::vector<std::uint32_t>> slots;
  const std::vector<RingWriter::FoundSlot> found = s.ring.found();
  for (const RingWriter::FoundSlot& slot : found) {
    if (s.ring.adopt_pixels(slot.slot)) slots[slot.request].push_back(slot.slot);
  }
  for (auto& [id, of_request] : slots) {
    const LeaseId lease = make_lease(s, std::move(of_request));
    // Not retired in the ring: readers that check would take their pixels for lost.
    s.leases.at(lease).retired = true;
    s.former_pixels.emplace(id, lease);
    for (Worker& worker : s.workers) {
      if (!worker.is_former) continue;
      worker.former_leases.push_back(lease);
      ++s.leases.at(lease).holders;
    }
  }
}

Resume claim_held(CoreState& s, const Hello& hello) {
  Resume resume;
  Worker& worker = s.workers[hello.worker];
  if (!std::exchange(worker.is_former, false)) return resume;
  std::set<AssignmentKey> named;
  for (const HeldSequence& held : hello.held) {
    if (!named.insert({held.id, held.attempt}).second) continue;
    if (Assignment* assignment = wanted(s, hello.worker, held)) {
      assignment->pixels = hold_pixels(s, held);
      std::uint32_t from = s.ledger.num_tokens(find_request(s, held.id)->record);
      if (!rule_holds(Rule::kResumeFrom)) ++from;
      resume.sequences.push_back({held.id, held.attempt, from});
    } else {
      drop_unwanted(s, hello.worker, held);
    }
  }
  std::vector<AssignmentKey> lost;
  for (const auto& [key, assignment] : worker.assignments) {
    if (!named.contains(key)) lost.push_back(key);
  }
  if (!rule_holds(Rule::kLostSentAgain)) lost.clear();
  for (const AssignmentKey& key : lost) let_go(s, hello.worker, key);
  for (const LeaseId lease : std::exchange(worker.former_leases, {})) unhold_lease(s, lease);
  log(s, LogLine::Level::kInfo,
      "worker " + std::to_string(hello.worker) + " goes on with " +
          std::to_string(resume.sequences.size()) + " of " + std::to_string(hello.held.size()) +
          " sequences; " + std::to_string(lost.size()) + " are sent again");
  if (!has_former(s)) s.hello_deadline = 0;
  return resume;
}

void run_hello_timer(CoreState& s) {
  if (s.hello_deadline == 0) return;
  if (!has_former(s)) s.hello_deadline = 0;
  if (s.hello_deadline == 0 || s.now < s.hello_deadline) return;
  s.hello_deadline = 0;
  for (std::uint32_t index = 0; index < s.workers.size(); ++index) {
    if (s.workers[index].is_former) condemn(s, index, "no hello to this broker");
  }
}

}  // namespace facet::core
