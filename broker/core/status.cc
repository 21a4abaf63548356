#include "broker/core/status.h"

#include <algorithm>
#include <map>
#include <string>

#include "broker/core/cursors.h"
#include "broker/core/eta.h"
#include "broker/core/requests.h"
#include "broker/core/users.h"

namespace facet {

const char* worker_state_name(WorkerState state) {
  switch (state) {
    case WorkerState::kAbsent:
      return "absent";
    case WorkerState::kStarting:
      return "starting";
    case WorkerState::kReady:
      return "ready";
    case WorkerState::kDead:
      return "dead";
    case WorkerState::kDisabled:
      return "disabled";
  }
  return "unknown";
}

namespace core {
namespace {

Error differ(const std::string& what, std::uint64_t counted, std::uint64_t stated) {
  return Error(Code::kInternal, what + ": " + std::to_string(counted) + " counted, " +
                                    std::to_string(stated) + " stated");
}

Status check_requests(const CoreState& s) {
  std::array<std::uint32_t, 2> queued{};
  std::array<std::uint32_t, 2> holding{};
  std::array<std::size_t, 2> waiting{};
  std::array<std::size_t, 2> ready{};
  std::uint32_t running = 0;
  std::uint32_t unfinished = 0;
  std::size_t backoff = 0;
  std::size_t unread = 0;
  for (const auto& [id, r] : s.requests) {
    const int group = r.is_suspect() ? 1 : 0;
    if (!r.is_unfinished()) {
      if (r.encoded != 0 || r.pixels != 0) return Error(Code::kInternal, "finished, with slots");
      if (!r.watchers.empty()) continue;
      ++unread;
      if (!s.evictable.contains({r.kept_since, id})) return Error(Code::kInternal, "kept for ever");
      continue;
    }
    ++unfinished;
    if (r.encoded == 0 && !r.images.empty()) return Error(Code::kInternal, "images without slots");
    if (r.phase == Phase::kRunning) {
      ++running;
      const auto& assignments = s.workers[r.worker].assignments;
      const auto found = assignments.find({id, r.progress.attempts});
      if (found == assignments.end() || !found->second.is_current) {
        return Error(Code::kInternal, "request " + id.hex() + " runs nowhere");
      }
      continue;
    }
    ++queued[static_cast<int>(r.key.priority)];
    if (r.pixels != 0) ++holding[group];
    if (r.phase == Phase::kWaiting) ++waiting[group];
    if (r.phase == Phase::kReady) ++ready[group];
    if (r.phase == Phase::kBackoff) ++backoff;
  }
  for (int i = 0; i < 2; ++i) {
    if (queued[i] != s.num_queued[i]) return differ("queued", queued[i], s.num_queued[i]);
    if (holding[i] != s.num_holding[i]) return differ("holding", holding[i], s.num_holding[i]);
    if (waiting[i] != s.waiting[i].size()) {
      return differ("waiting", waiting[i], s.waiting[i].size());
    }
    if (ready[i] != s.ready[i].size()) return differ("ready", ready[i], s.ready[i].size());
  }
  if (running != s.num_running) return differ("running", running, s.num_running);
  if (unfinished != s.num_unfinished) return differ("unfinished", unfinished, s.num_unfinished);
  if (backoff != s.backoff_timers.size()) {
    return differ("back-off", backoff, s.backoff_timers.size());
  }
  if (s.request_timers.size() != s.requests.size()) {
    return differ("timers of requests", s.request_timers.size(), s.requests.size());
  }
  if (unread != s.evictable.size()) return differ("evictable", unread, s.evictable.size());
  if (s.ledger.use().records != s.requests.size()) {
    return differ("records", s.requests.size(), s.ledger.use().records);
  }
  return {};
}

// Every leased slot belongs to one lease or upload; every hold has its holder.
Status check_slots(const CoreState& s) {
  std::map<LeaseId, std::uint32_t> holders;
  for (const auto& [job, running] : s.decode_jobs) {
    ++holders[running.task.pixels];
    ++holders[running.encoded];
  }
  for (const Worker& worker : s.workers) {
    std::uint64_t tokens = 0;
    for (const auto& [key, assignment] : worker.assignments) {
      if (assignment.pixels != 0) ++holders[assignment.pixels];
      tokens += assignment.prompt_tokens + assignment.remaining_tokens;
    }
    if (tokens != worker.status.outstanding_tokens) {
      return differ("outstanding tokens", tokens, worker.status.outstanding_tokens);
    }
  }
  for (const Worker& worker : s.workers) {
    for (LeaseId lease : worker.former_leases) ++holders[lease];
  }
  for (const auto& [key, grave] : s.graves) {
    for (LeaseId lease : grave.leases) ++holders[lease];
  }
  std::uint64_t slots = 0;
  std::uint64_t retired = 0;
  for (const auto& [id, lease] : s.leases) {
    slots += lease.slots.size();
    if (lease.retired) ++retired;
    const auto found = holders.find(id);
    const std::uint32_t held = found == holders.end() ? 0 : found->second;
    if (held != lease.holders) return differ("holders of a lease", held, lease.holders);
  }
  for (const auto& [id, held] : holders) {
    if (!s.leases.contains(id)) return Error(Code::kInternal, "a holder of no lease");
  }
  std::uint64_t owned = 0;
  for (const auto& [id, r] : s.requests) owned += (r.encoded != 0) + (r.pixels != 0);
  if (owned + retired != s.leases.size()) return differ("leases", owned + retired, s.leases.size());
  for (const auto& [id, upload] : s.uploads) {
    for (const UploadImage& image : upload.images) slots += image.slot.has_value();
  }
  const std::uint64_t used =
      s.ring.use(RingArena::kIngest).slots + s.ring.use(RingArena::kPixel).slots;
  if (slots != used) return differ("ring slots", slots, used);
  return {};
}

Status check_clients(const CoreState& s) {
  std::map<ClientToken, std::pair<std::uint32_t, std::uint64_t>> owned;
  std::size_t watched = 0;
  for (const auto& [id, r] : s.requests) {
    watched += r.watchers.size();
    if (!r.is_unfinished() || !s.clients.contains(r.owner)) continue;
    ++owned[r.owner].first;
    owned[r.owner].second += r.owner_bytes;
  }
  for (const auto& [id, upload] : s.uploads) {
    if (s.clients.contains(upload.owner)) owned[upload.owner].second += upload.bytes;
  }
  std::size_t cursors = 0;
  for (const auto& [token, client] : s.clients) {
    cursors += client.cursors.size();
    const auto& [requests, bytes] = owned[token];
    if (requests != client.requests) return differ("client's requests", requests, client.requests);
    if (bytes != client.bytes) return differ("client's bytes", bytes, client.bytes);
  }
  if (cursors != watched) return differ("cursors", cursors, watched);
  return {};
}

}  // namespace

bool is_idle(const CoreState& s) {
  if (s.num_unfinished > 0 || !s.decode_jobs.empty() || !s.graves.empty()) return false;
  for (const auto& [id, upload] : s.uploads) {
    if (upload.bytes > 0) return false;
  }
  for (const Worker& worker : s.workers) {
    if (!worker.assignments.empty() || !worker.former_leases.empty()) return false;
  }
  return true;
}

bool is_drained(const CoreState& s, Nanos now) {
  if (!s.draining || s.num_unfinished > 0) return false;
  const bool has_taken_over = s.ledger.epoch() > 1 && !s.requests.empty();
  if (has_taken_over && now < s.recovered_at + s.limits.drain_return) return false;
  const Nanos last = s.completions.empty() ? 0 : s.completions.back();
  return !has_cursors(s) || now >= std::max(s.draining_since, last) + s.limits.drain_delivery;
}

Status check_conservation(const CoreState& s) {
  FACET_TRY_STATUS(s.ring.check_conservation());
  FACET_TRY_STATUS(s.ledger.check_conservation());
  FACET_TRY_STATUS(check_requests(s));
  FACET_TRY_STATUS(check_slots(s));
  FACET_TRY_STATUS(check_clients(s));
  FACET_TRY_STATUS(check_users(s));
  if (!is_idle(s)) return {};
  if (!s.leases.empty()) return differ("leases at rest", s.leases.size(), 0);
  if (s.exposed) return Error(Code::kInternal, "a suspect is exposed at rest");
  return {};
}

CoreStatus make_status(const CoreState& s) {
  CoreStatus status;
  status.epoch = s.ledger.epoch();
  status.draining = s.draining;
  status.decoder_up = s.decoder_up;
  status.queued_interactive = s.num_queued[0];
  status.queued_batch = s.num_queued[1];
  status.running = s.num_running;
  status.terminal_records = static_cast<std::uint32_t>(s.requests.size()) - s.num_unfinished;
  for (const auto& [id, r] : s.requests) {
    if (r.is_unfinished() && r.is_suspect()) ++status.suspects;
  }
  status.clients = static_cast<std::uint32_t>(s.clients.size());
  status.uploads = static_cast<std::uint32_t>(s.uploads.size());
  status.decode_jobs = static_cast<std::uint32_t>(s.decode_jobs.size());
  status.completions_per_second = completions_per_second(s);
  status.tokens_per_second = s.throughput.tokens_per_second();
  status.queued_tokens = s.queued_tokens;
  status.eta_ms = eta_ms(s, num_queued(s));
  for (const auto& [id, user] : s.users) {
    if (user.requests > 0 || user.bytes > 0) {
      status.users.push_back({id, user.requests, user.queued, user.bytes, user.record_bytes});
    }
  }
  for (const Worker& worker : s.workers) {
    status.workers.push_back(worker.status);
    status.workers.back().sequence_tokens_per_second = worker.speed.tokens_per_second();
    status.workers.back().outstanding = static_cast<std::uint32_t>(worker.assignments.size());
  }
  status.ingest = s.ring.use(RingArena::kIngest);
  status.pixels = s.ring.use(RingArena::kPixel);
  status.ledger = s.ledger.use();
  status.counters = s.counters;
  return status;
}

}  // namespace core
}  // namespace facet
