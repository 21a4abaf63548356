// The tables behind BrokerCore, shared by the rooms of the core (requests, uploads, images, ...).
// Each file's functions say which of them they change. Internal to broker/core.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "broker/core/actions.h"
#include "broker/core/core_limits.h"
#include "broker/core/core_status.h"
#include "broker/core/dispatch_policy.h"
#include "broker/core/events.h"
#include "broker/core/seams.h"
#include "broker/core/speed_meter.h"
#include "common/base/clock.h"
#include "common/shm/ledger.h"
#include "common/shm/ring.h"

namespace facet {

using LeaseId = std::uint64_t;  // 0 = none

// Ring slots that are given back together: when retired and no holder is left.
struct Lease {
  std::vector<std::uint32_t> slots;
  std::uint32_t holders = 0;  // worker assignments and decode jobs that may touch them
  bool retired = false;       // the request is done with them
};

enum class Phase : std::uint8_t {
  kWaiting,   // for a reservation of all its pixel pages
  kDecoding,  // pixels reserved, decode jobs queued or running
  kReady,     // can be dispatched
  kBackoff,   // preempted a moment ago
  kRunning,   // at a worker
  kTerminal,
};

// Queue order: round (users.h), priority, acceptance. A request keeps its key, so one that comes
// back from a dead worker is in front of all that were accepted later.
struct QueueKey {
  std::uint64_t round = 0;
  Priority priority = Priority::kInteractive;
  std::uint64_t sequence = 0;
  auto operator<=>(const QueueKey&) const = default;
};

struct Request {
  RequestId id;
  std::uint32_t max_tokens = 0;  // with the server's default
  std::uint32_t logprobs_per_token = 0;
  std::uint32_t record = 0;
  std::uint64_t body_hash_high = 0;
  std::uint64_t body_hash_low = 0;
  QueueKey key;
  Phase phase = Phase::kWaiting;
  Nanos accepted = 0;
  Nanos deadline = 0;
  // When its end was told last; before that, when a client could ask for it first. Its place in
  // CoreState::evictable, where it stands while nobody reads it: changed only while somebody does.
  Nanos kept_since = 0;
  Nanos timer = 0;  // its entry in CoreState::request_timers: deadline, later the record's end
  RecordProgress progress;

  std::vector<LedgerImage> images;
  std::vector<std::uint32_t> child_faults;  // of the decoder, by image
  std::uint32_t images_undecoded = 0;
  LeaseId encoded = 0;
  LeaseId pixels = 0;

  std::uint64_t prompt_estimate = 0;  // tokens, for least-loaded dispatch
  std::uint32_t preemptions = 0;
  Nanos not_before = 0;      // kBackoff
  std::uint32_t worker = 0;  // kRunning
  int holding_as = -1;       // where it is counted in CoreState::num_holding; -1 = not

  ClientToken owner = 0;  // whose quota it counts against; 0 = nobody's any more
  UserId user = 0;        // the same, for as long as it is unfinished
  std::uint64_t owner_bytes = 0;
  std::uint64_t record_bytes = 0;
  std::uint64_t queued_tokens = 0;    // what it counts for in CoreState::queued_tokens
  std::vector<ClientToken> watchers;  // clients with a cursor over it

  bool is_suspect() const { return progress.strikes > 0; }
  bool is_unfinished() const { return phase != Phase::kTerminal; }
  bool is_queued() const { return is_unfinished() && phase != Phase::kRunning; }
};

struct AssignmentKey {
  RequestId id;
  std::uint32_t attempt = 0;
  auto operator<=>(const AssignmentKey&) const = default;
};

// One dispatch that its worker has not ended yet. It outlives the request's interest in it (after a
// cancel, a timeout): the worker may still read the pixels.
struct Assignment {
  LeaseId pixels = 0;
  std::uint64_t prompt_tokens = 0;     // estimate, until the first token
  std::uint64_t remaining_tokens = 0;  // estimate
  bool is_current = true;              // the request still waits for it
  bool is_solo = false;                // a suspect that runs alone
};

struct Worker {
  WorkerStatus status;
  std::map<AssignmentKey, Assignment> assignments;
  std::optional<WorkerHello> early_hello;  // came before the supervisor's word of its start
  bool has_stepped = false;
  bool is_former = false;              // served a former broker and has not said hello to this one
  std::vector<LeaseId> former_leases;  // which it may still read, until it says
  std::uint32_t steps_unacked = 0;
  bool is_told_to_end = false;  // drained
  core::SpeedMeter speed;
  std::uint64_t tokens_done = 0;  // in the step in hand, prompt tokens included
};

// An incarnation seen dead and not reaped: it may still read what it holds.
struct Grave {
  std::vector<LeaseId> leases;
  bool death_reported = false;  // by the supervisor; false: condemned by the core itself
};

struct UploadImage {
  std::optional<std::uint32_t> slot;
  std::uint64_t total = 0;
  std::uint64_t received = 0;
  ProbedImage probed;  // when received == total
  std::uint64_t content_hash_high = 0;
  std::uint64_t content_hash_low = 0;
  bool is_complete() const { return slot && received == total; }
};

struct Upload {
  ClientToken owner = 0;
  UserId user = 0;
  std::vector<UploadImage> images;
  std::uint64_t bytes = 0;  // reserved
  std::uint64_t pages() const {
    std::uint64_t sum = 0;
    for (const UploadImage& image : images) {
      if (image.slot) sum += RingWriter::pages_for(image.total);
    }
    return sum;
  }
  Nanos expires = 0;
  std::optional<Refused> refusal;  // the try was refused: what follows of it is dropped
  std::uint64_t begun = 0;         // bit i: image i's first chunk was seen in this try
};

struct DecodeTask {
  RequestId id;
  std::uint32_t image = 0;
  LeaseId pixels = 0;
};

struct RunningDecode {
  DecodeTask task;
  LeaseId encoded = 0;
  Nanos overdue = 0;
};

struct Cursor {
  std::uint32_t next = 0;  // token index
  bool accepted_due = false;
  bool is_queued = false;  // in Client::due
};

struct Client {
  std::unordered_map<RequestId, Cursor> cursors;
  std::deque<RequestId> due;     // cursors that may have something to send
  std::deque<Refused> refusals;  // not sent yet, bounded
  bool is_blocked = false;
  Nanos retry_at = 0;
  std::uint32_t requests = 0;  // unfinished, accepted from it
  std::uint64_t bytes = 0;     // ingest bytes of those and of its uploads
};

// What one user holds, over all its connections.
struct User {
  std::uint32_t requests = 0;  // unfinished
  std::uint32_t queued = 0;    // of those, not at a worker
  std::uint32_t uploads = 0;   // requests whose images have begun to arrive, refused ones too
  std::uint64_t bytes = 0;     // ingest bytes of unfinished requests and of uploads
  std::uint64_t pages = 0;     // of the ingest arena, for those bytes
  std::uint64_t record_bytes = 0;
  std::uint64_t next_round = 0;
  std::uint64_t next_batch_round = 0;
};

using Timers = std::set<std::pair<Nanos, RequestId>>;

struct CoreState {
  CoreState(const CoreLimits& core_limits, CoreSeams core_seams, RingWriter& ring_writer,
            LedgerWriter& ledger_writer)
      : limits(core_limits),
        seams(std::move(core_seams)),
        ring(ring_writer),
        ledger(ledger_writer),
        workers(core_limits.num_workers) {}

  CoreLimits limits;
  CoreSeams seams;
  RingWriter& ring;
  LedgerWriter& ledger;

  Nanos now = 0;
  std::vector<Action> out;

  std::unordered_map<RequestId, Request> requests;
  Timers request_timers;
  Timers evictable;  // finished records that nobody reads, by kept_since
  Timers backoff_timers;
  std::uint64_t next_sequence = 1;
  std::map<UserId, User> users;
  std::uint64_t round = 0;                    // that dispatch has reached
  std::uint64_t queued_tokens = 0;            // that queued requests are expected to take
  core::SpeedMeter throughput;                // of all workers together
  double taken_of_expected = 1.0;             // of its tokens, by an answer
  std::array<std::uint32_t, 2> num_queued{};  // by priority: accepted, not at a worker
  std::uint32_t num_running = 0;
  std::uint32_t num_unfinished = 0;
  // Requests that hold pixels and are not at a worker: [0] ordinary ones, [1] suspects.
  std::array<std::uint32_t, 2> num_holding{};
  std::array<std::map<QueueKey, RequestId>, 2> waiting;  // [0] ordinary, [1] suspects
  std::array<std::map<QueueKey, RequestId>, 2> ready;

  std::unordered_map<LeaseId, Lease> leases;
  LeaseId next_lease = 1;

  std::unordered_map<RequestId, Upload> uploads;
  Timers upload_timers;

  bool decoder_up = false;
  bool decoder_condemned = false;  // KillDecoder was said
  std::deque<DecodeTask> decode_queue;
  std::map<std::uint64_t, RunningDecode> decode_jobs;
  std::uint64_t next_job = 1;

  std::vector<Worker> workers;
  core::DispatchTurns turns;
  std::map<std::pair<std::uint32_t, std::uint64_t>, Grave> graves;  // worker, incarnation
  std::optional<ModelFacts> facts;
  std::optional<std::uint32_t> exposed;                  // the worker that a suspect runs on
  std::unordered_map<RequestId, LeaseId> former_pixels;  // found in the ring, for former workers
  Nanos hello_deadline = 0;                              // of former workers; 0 = none is awaited

  std::map<ClientToken, Client> clients;
  std::set<ClientToken> due_clients;
  Nanos next_keepalive = 0;

  bool draining = false;
  Nanos draining_since = 0;
  Nanos recovered_at = 0;         // when this broker started
  Nanos heard_since = 0;          // from then on it has run without a pause
  std::deque<Nanos> completions;  // the last ones, for the retry hint
  CoreCounters counters;
};

namespace core {

// Remembers in the ledger which record is being worked on, for as long as it lives.
class Handling {
 public:
  Handling(CoreState& s, std::uint32_t record)
      : ledger_(s.ledger), former_(ledger_.handling_word().load(std::memory_order_relaxed)) {
    ledger_.set_handling(record);
  }
  ~Handling() { ledger_.handling_word().store(former_, std::memory_order_release); }
  Handling(const Handling&) = delete;
  Handling& operator=(const Handling&) = delete;

 private:
  LedgerWriter& ledger_;
  const std::uint64_t former_;
};

// Accepted, not at a worker.
inline std::uint32_t num_queued(const CoreState& s) {
  return s.num_queued[0] + s.num_queued[1];
}

inline void log(CoreState& s, LogLine::Level level, std::string text) {
  s.out.push_back(LogLine{level, std::move(text)});
}

}  // namespace core
}  // namespace facet
