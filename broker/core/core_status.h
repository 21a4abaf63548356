// What `facet status` shows of the broker's core. The service adds its own and makes the JSON.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "broker/core/counters.h"
#include "common/protocol/messages.h"
#include "common/shm/ledger.h"
#include "common/shm/ring.h"

namespace facet {

enum class WorkerState : std::uint8_t {
  kAbsent,    // not started yet, or reaped and not started again
  kStarting,  // started, no hello
  kReady,     // takes dispatches
  kDead,      // seen dead or condemned, not reaped
  kDisabled,  // will not be started again
};

const char* worker_state_name(WorkerState state);

struct WorkerStatus {
  WorkerState state = WorkerState::kAbsent;
  std::uint64_t incarnation = 0;
  std::uint32_t pid = 0;
  std::uint32_t credits = 0;
  std::uint32_t outstanding = 0;  // dispatches not ended
  std::uint64_t outstanding_tokens = 0;
  std::uint64_t finished = 0;  // requests, over all incarnations
  std::uint64_t tokens = 0;
  double sequence_tokens_per_second = 0.0;  // of one running sequence, measured; 0 = not yet
  std::uint32_t deaths = 0;
  std::uint32_t own_fault_deaths = 0;
  std::uint32_t restarts = 0;     // ends that were asked for: drained, exit code 0
  std::uint32_t num_running = 0;  // as the worker last said
  std::uint32_t kv_blocks_free = 0;
  std::uint32_t kv_blocks_total = 0;
  std::uint32_t kv_blocks_cached = 0;
  bool is_settled = false;
  std::uint32_t idle_gap_ns = 0;
  bool is_draining = false;       // takes nothing new
  bool held_for_suspect = false;  // takes no ordinary request: a suspect runs, or will run, alone
  std::int32_t exit_code = 0;     // of the last death or of the disabling
  ModelFacts model;
};

struct UserStatus {
  std::uint32_t user = 0;
  std::uint32_t requests = 0;  // unfinished
  std::uint32_t queued = 0;
  std::uint64_t ingest_bytes = 0;
  std::uint64_t ledger_bytes = 0;
};

struct CoreStatus {
  std::uint64_t epoch = 0;
  bool draining = false;
  bool decoder_up = false;
  std::uint32_t queued_interactive = 0;  // accepted, not at a worker
  std::uint32_t queued_batch = 0;
  std::uint32_t running = 0;
  std::uint32_t suspects = 0;
  std::uint32_t terminal_records = 0;
  std::uint32_t clients = 0;
  std::uint32_t uploads = 0;
  std::uint32_t decode_jobs = 0;
  double completions_per_second = 0.0;
  double tokens_per_second = 0.0;        // of all workers while they have work; 0 = not yet
  std::uint64_t queued_tokens = 0;       // that queued requests are expected to take
  std::optional<std::uint32_t> eta_ms;   // of a batch request that came now
  std::vector<UserStatus> users;         // that hold something
  std::vector<WorkerStatus> workers;
  ArenaUse ingest;
  ArenaUse pixels;
  LedgerUse ledger;
  CoreCounters counters;
};

}  // namespace facet
