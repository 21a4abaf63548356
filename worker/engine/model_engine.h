// The engine of a real model: scheduler, model runner, sampling and text put together.
// One thread; every request is a sequence here from add() to the update that ends it.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "worker/engine/answer.h"
#include "worker/engine/engine.h"
#include "worker/engine/input_processor.h"
#include "worker/engine/model_runner.h"
#include "worker/engine/sampler.h"
#include "worker/engine/scheduler.h"

namespace facet {

struct ModelEngineParts {
  ModelFacts facts;
  std::uint32_t capacity = 32;  // sequences held at once
  std::int32_t max_lanes = 16;  // sequences that run at once; runner's chunks at most
  bool prefix_cache = true;     // of KV blocks and encoder output
  SamplingDefaults sampling;
  std::unique_ptr<InputProcessor> input;
  std::unique_ptr<ModelRunner> runner;
  ProgressTick tick;             // called by every long phase
  std::function<Nanos()> clock;  // for deadlines; none: they are left to others
  std::string not_finite_hint;   // behind kNotFiniteMessage
};

class ModelEngine final : public Engine {
 public:
  explicit ModelEngine(ModelEngineParts parts);
  ~ModelEngine() override;

  const ModelFacts& facts() const override { return parts_.facts; }
  std::uint32_t capacity() const override { return parts_.capacity; }
  Status add(SequenceSpec spec) override;
  void cancel(const RequestId& id, std::uint32_t attempt) override;
  bool has_work() const override { return !active_.empty() || !in_flight_.empty(); }
  Result<std::vector<SequenceUpdate>> step() override;
  std::uint32_t kv_blocks_free() const override;
  std::uint32_t kv_blocks_total() const override;
  std::uint32_t kv_blocks_cached() const override;
  Nanos idle_gap() const override { return parts_.runner->idle_gap(); }
  bool is_settled() const override { return parts_.runner->is_settled(); }
  Status check_conservation() const override;

 private:
  struct Active;
  // A launched step: whose tokens it chooses, in order; null where the sequence ended meanwhile.
  using InFlight = std::vector<Active*>;
  using Updates = std::vector<SequenceUpdate>;

  Status check_room(const SequenceSpec& spec, const Prompt& prompt) const;
  void replay(Active& active);
  void end_waiting_ends(Updates& updates);
  void end_overdue(Updates& updates);
  Status encode_all(StepPlan& plan, Updates& updates);
  Result<bool> encode_once(StepPlan& plan, Updates& updates);
  Result<bool> launch_next(Updates& updates);
  Status launch(const StepPlan& plan);
  void note_launched(const StepPlan& plan);
  Status collect_oldest(Updates& updates);
  void take_token(Active& active, const ChosenToken& chosen, Updates& updates);
  void tell_released_images(Updates& updates);
  void finish(Active& active, SequenceEnd::Kind kind, SequenceUpdate update, Updates& updates);
  void finish_error(Active& active, const Error& error, Updates& updates);
  Active& active_of(const Sequence* sequence);

  ModelEngineParts parts_;
  BlockPool blocks_;
  RowPool rows_;
  Scheduler scheduler_;
  std::unordered_map<const Sequence*, std::unique_ptr<Active>> active_;
  std::deque<InFlight> in_flight_;           // oldest first
  std::vector<const Sequence*> releasable_;  // whose images were encoded in this call
};

}  // namespace facet
