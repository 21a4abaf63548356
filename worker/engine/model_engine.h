// The engine of a real model: scheduler, model runner, sampling and text put together.
// One thread; every request is a sequence here from add() to the update that ends it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
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
  SamplingDefaults sampling;
  std::unique_ptr<InputProcessor> input;
  std::unique_ptr<ModelRunner> runner;
  ProgressTick tick;  // called by every long phase
};

class ModelEngine final : public Engine {
 public:
  explicit ModelEngine(ModelEngineParts parts);
  ~ModelEngine() override;

  const ModelFacts& facts() const override { return parts_.facts; }
  std::uint32_t capacity() const override { return parts_.capacity; }
  Status add(SequenceSpec spec) override;
  void cancel(const RequestId& id, std::uint32_t attempt) override;
  bool has_work() const override { return !active_.empty(); }
  Result<std::vector<SequenceUpdate>> step() override;
  std::uint32_t kv_blocks_free() const override;
  std::uint32_t kv_blocks_total() const override;
  Status check_conservation() const override;

 private:
  struct Active;
  using Updates = std::vector<SequenceUpdate>;

  Result<std::uint32_t> answer_room(const SequenceSpec& spec, const Prompt& prompt) const;
  void replay(Active& active);
  void end_waiting_ends(Updates& updates);
  Status encode_images(const ScheduledChunk& chunk);
  Status encode_one(Active& active, std::size_t image);
  void encode_all(StepPlan& plan, Updates& updates);
  SequenceChunk to_runner_chunk(const ScheduledChunk& chunk, std::vector<ImageRows>& rows) const;
  Result<LogitsView> run_forward(const StepPlan& plan);
  void take_token(Active& active, std::span<const float> logits, SequenceUpdate& update);
  void finish(Active& active, SequenceEnd::Kind kind, SequenceUpdate update, Updates& updates);
  void finish_error(Active& active, const Error& error, Updates& updates);
  Active& active_of(const Sequence* sequence);

  ModelEngineParts parts_;
  BlockPool blocks_;
  RowPool rows_;
  Scheduler scheduler_;
  std::unordered_map<const Sequence*, std::unique_ptr<Active>> active_;
  std::vector<float> patches_;  // of the image being encoded
  std::vector<float> scores_;   // of the sequence being sampled
};

}  // namespace facet
