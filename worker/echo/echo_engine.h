// EchoEngine: a deterministic engine without a model, for tests of everything around an engine.
// It reads the pixels of all images of a sequence again at each token and re-checks after reading
// that the slots were still theirs.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "common/base/clock.h"
#include "worker/echo/echo_hook.h"
#include "worker/echo/step_schedule.h"
#include "worker/engine/engine.h"

namespace facet {

struct EchoOptions {
  Nanos step_time = kMillisecond;  // one step takes this long, however many sequences it holds
  std::uint64_t memory_bytes = 0;  // resident memory to hold
  std::uint32_t max_lanes = 16;    // sequences that run in one step
  std::uint32_t capacity = 32;     // sequences held, waiting ones included
};

class EchoEngine : public Engine {
 public:
  // kExhausted: the memory cannot be had.
  static Result<std::unique_ptr<EchoEngine>> create(const EchoOptions& options, ProgressTick tick);
  ~EchoEngine() override;
  EchoEngine(const EchoEngine&) = delete;
  EchoEngine& operator=(const EchoEngine&) = delete;

  const ModelFacts& facts() const override { return facts_; }
  std::uint32_t capacity() const override { return options_.capacity; }
  Status add(SequenceSpec spec) override;
  void cancel(const RequestId& id, std::uint32_t attempt) override;
  bool has_work() const override { return !sequences_.empty(); }
  Result<std::vector<SequenceUpdate>> step() override;
  std::uint32_t kv_blocks_free() const override { return 0; }
  std::uint32_t kv_blocks_total() const override { return 0; }
  Status check_conservation() const override;

 private:
  struct Sequence {
    SequenceSpec spec;
    std::uint64_t prompt_digest = 0;
    std::uint32_t text_tokens = 0;
    std::uint32_t image_tokens = 0;
    std::vector<std::int32_t> tokens;  // committed ones and those made here
    std::optional<EchoHook> hook;
    bool drifts = false;
    bool cancelled = false;
  };

  EchoEngine(const EchoOptions& options, ProgressTick tick);
  Status reserve_memory();
  void sleep_until(Nanos due);
  // Adds the next token, or the end, to `update`. An Error ends the whole engine.
  Status advance(Sequence& sequence, SequenceUpdate& update);
  void make_token(Sequence& sequence, SequenceUpdate& update);

  const EchoOptions options_;
  const ProgressTick tick_;
  ModelFacts facts_;
  StepSchedule schedule_;
  std::deque<Sequence> sequences_;  // in the order of arrival; the first max_lanes run
  void* memory_ = nullptr;
};

}  // namespace facet
