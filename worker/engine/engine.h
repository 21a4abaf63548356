// The engine: what a worker's service drives, whatever the model. Implemented by the scheduler over
// a model (worker/engine, worker/model) and by the echo engine (worker/echo).
// One thread calls everything here. No sockets, no clock of its own, no torch.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/request_id.h"
#include "common/base/result.h"
#include "common/control/worker_page.h"
#include "common/protocol/messages.h"

namespace facet {

// An image of a sequence, still in the ring: RGB8, rows of 3 * width bytes. `is_current` re-reads
// the slot's state and generation: false means the pixels may have been another request's (a
// protocol error: the engine ends the sequence with kCorrupt and emits nothing computed from them).
struct ImageView {
  const std::uint8_t* pixels = nullptr;  // owned by the ring's mapping
  std::uint32_t width = 0;
  std::uint32_t height = 0;
  std::uint64_t content_hash_high = 0;  // XXH3-128 of the encoded bytes
  std::uint64_t content_hash_low = 0;
  std::function<bool()> is_current;
};

// One dispatch of a request, as the engine sees it. The answer goes on after `committed`.
struct SequenceSpec {
  RequestId id;
  std::uint32_t attempt = 0;
  GenerateRequest request;
  std::vector<ImageView> images;
  std::vector<std::int32_t> committed;
  Nanos deadline = 0;  // CLOCK_MONOTONIC; 0: none. After it the sequence ends with kTimeout
};

// Called by long phases (per layer, per image) so that a hang is told from slow work.
using ProgressTick = std::function<void(WorkerPhase)>;

class Engine {
 public:
  virtual ~Engine() = default;

  virtual const ModelFacts& facts() const = 0;
  // Sequences it can hold at once, waiting ones included: becomes the worker's credits.
  virtual std::uint32_t capacity() const = 0;

  // Takes a sequence in, or refuses it with an error that is terminal for the request
  // (kInvalidArgument, kTooLarge with needs and has, kUnsupported). Cheap: no model work.
  virtual Status add(SequenceSpec spec) = 0;

  // Forgets a sequence if (id, attempt) is held; its update with end kCancelled comes with the next
  // step.
  virtual void cancel(const RequestId& id, std::uint32_t attempt) = 0;

  virtual bool has_work() const = 0;

  // One step of the running batch. Returns what changed; never throws, never fails as a whole:
  // a sequence that fails ends alone with kError. An engine that cannot go on at all returns an
  // Error: the worker logs it and exits with kExitEngine.
  virtual Result<std::vector<SequenceUpdate>> step() = 0;

  // For Step.kv_blocks_*; 0/0 for an engine without KV.
  virtual std::uint32_t kv_blocks_free() const = 0;
  virtual std::uint32_t kv_blocks_total() const = 0;

  // Of the free ones: those whose content may be used again.
  virtual std::uint32_t kv_blocks_cached() const { return 0; }

  // How long its device rested between two steps that followed at once: a mean over the last ones.
  // 0: not measured.
  virtual Nanos idle_gap() const { return 0; }

  // All memory that it will ever need is reserved: from here on it allocates nothing on its device.
  virtual bool is_settled() const { return true; }

  // When nothing runs: every block, lane and buffer is back at its baseline. Names what is not.
  virtual Status check_conservation() const = 0;
};

}  // namespace facet
