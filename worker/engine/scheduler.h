// Decides what one step computes: every decoding sequence, then prefill chunks under the token
// budget, older ones first. Continuous batching: sequences join and leave between steps.
// A sequence takes the blocks of all its known tokens when it starts, as many as it can from the
// cache, and one more when its answer grows into it; when none is left, the youngest of the lowest
// priority is preempted.
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/result.h"
#include "worker/engine/block_pool.h"
#include "worker/engine/row_pool.h"
#include "worker/engine/sequence.h"

namespace facet {

struct SchedulerLimits {
  std::int32_t max_lanes = 16;
  std::int32_t max_step_tokens = 2048;
  bool prefix_cache = true;  // sequences begin with cached blocks, and leave theirs behind
};

struct ScheduledChunk {
  Sequence* sequence = nullptr;
  std::int32_t first = 0;  // token index; count tokens from there
  std::int32_t count = 0;
  // Images that begin to be used: prompt.images [begin, end). Their rows are held; those that are
  // not filled yet are to be encoded before.
  std::size_t encode_begin = 0;
  std::size_t encode_end = 0;
  // The chunk reaches the last token there is: the next one can be chosen.
  bool reaches_end() const { return first + count == sequence->num_tokens(); }
};

struct StepPlan {
  std::vector<ScheduledChunk> chunks;
  std::vector<Sequence*> preempted;  // hold nothing any more and are forgotten
};

class Scheduler {
 public:
  Scheduler(const SchedulerLimits& limits, BlockPool& blocks, RowPool& rows)
      : limits_(limits),
        blocks_(blocks),
        rows_(rows),
        lane_used_(static_cast<std::size_t>(limits.max_lanes)) {}

  // Sequences stay the caller's. `arrival` is set here.
  void add(Sequence& sequence);
  StepPlan schedule();
  // schedule() would preempt someone. Tokens still in flight may end sequences first.
  bool would_preempt() const;
  // The chunk was launched.
  void complete(const ScheduledChunk& chunk);
  // Gives back what the sequence holds and forgets it, in whatever state it is.
  void remove(Sequence& sequence);
  // Likewise, and nobody is to begin with what it computed.
  void discard(Sequence& sequence);

  std::size_t num_running() const { return running_.size(); }
  std::size_t num_waiting() const { return waiting_.size(); }
  // At any time: blocks and their holders agree. With nothing running: rows are free, too.
  Status check_conservation() const;

 private:
  bool grow(Sequence& sequence, StepPlan& plan);
  void schedule_decodes(StepPlan& plan);
  void schedule_prefill(Sequence& sequence, StepPlan& plan);
  bool start_next();
  bool reserve_rows(Sequence& sequence, ScheduledChunk& chunk);
  void adopt_prefix(Sequence& sequence);
  void remember_blocks(Sequence& sequence);
  void take_lane(Sequence& sequence);
  void release(Sequence& sequence);
  std::int32_t missing_blocks(const Sequence& sequence) const;

  SchedulerLimits limits_;
  BlockPool& blocks_;
  RowPool& rows_;
  std::vector<bool> lane_used_;
  std::uint64_t next_arrival_ = 0;
  std::vector<Sequence*> waiting_;  // both in the order of goes_before()
  std::vector<Sequence*> running_;
  // During schedule():
  std::int32_t tokens_left_ = 0;
  bool rows_short_ = false;  // someone waits for encoder rows: nobody behind takes any
};

}  // namespace facet
