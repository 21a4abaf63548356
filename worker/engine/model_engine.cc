#include "worker/engine/model_engine.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"
#include "worker/engine/active_request.h"
#include "worker/engine/prefix_keys.h"

namespace facet {

ModelEngine::ModelEngine(ModelEngineParts parts)
    : parts_(std::move(parts)),
      blocks_(parts_.runner->shape().num_blocks, parts_.runner->shape().block_tokens),
      rows_(parts_.runner->shape().encoder_rows),
      scheduler_({std::min(parts_.max_lanes, parts_.runner->shape().max_step_chunks),
                  parts_.runner->shape().max_step_tokens, parts_.prefix_cache},
                 blocks_, rows_) {
  // Otherwise a full batch of decoding sequences could not take a step.
  FACET_CHECK(parts_.runner->shape().max_step_tokens >= parts_.max_lanes);
}

ModelEngine::~ModelEngine() = default;

// An answer that could outgrow the context or the KV pool is refused now, with the numbers.
Status ModelEngine::check_room(const SequenceSpec& spec, const Prompt& prompt) const {
  const std::uint64_t prompt_tokens = prompt.token_ids.size();
  const std::uint64_t answer_tokens = spec.request.sampling.max_tokens;
  const std::uint64_t needs = prompt_tokens + answer_tokens;
  const std::uint64_t pool_tokens = static_cast<std::uint64_t>(blocks_.total()) *
                                    static_cast<std::uint64_t>(blocks_.block_tokens());
  const std::uint64_t room = std::min<std::uint64_t>(parts_.facts.max_model_len, pool_tokens);
  if (needs <= room) return {};
  return Error(Code::kTooLarge, "needs " + std::to_string(needs) + " token positions (" +
                                    std::to_string(prompt_tokens) + " of the prompt, " +
                                    std::to_string(answer_tokens) + " of the answer), has " +
                                    std::to_string(room));
}

Status ModelEngine::add(SequenceSpec spec) {
  FACET_TRY_STATUS(check_sampling(spec.request.sampling));
  if (spec.request.sampling.max_tokens == 0)
    return Error(Code::kInvalidArgument, "max_tokens 0: an answer has at least one token");
  Prompt prompt = FACET_TRY(parts_.input->build(spec.request, spec.images));
  FACET_TRY_STATUS(check_room(spec, prompt));
  const std::uint32_t max_tokens = spec.request.sampling.max_tokens;
  for (const std::int32_t token : spec.committed)
    if (token < 0 || token >= parts_.sampling.vocab_size)
      return Error(Code::kInvalidArgument,
                   "committed token " + std::to_string(token) + " is not in the vocabulary");
  if (spec.committed.size() > max_tokens)
    return Error(Code::kInvalidArgument, "has more committed tokens than max_tokens");
  if (parts_.prefix_cache)
    for (ImageSpan& span : prompt.images)
      span.key = image_key(spec.images[static_cast<std::size_t>(span.image)], span);
  const SamplingParams params = spec.request.sampling;
  Sampler sampler(params, parts_.sampling, prompt.token_ids);
  Sequence sequence(std::move(prompt), spec.committed);
  sequence.priority = spec.request.priority;
  auto active = std::make_unique<Active>(
      Active{std::move(spec), std::move(sequence), std::move(sampler),
             Answer(params, parts_.sampling.eos_token_ids, parts_.input->tokenizer())});
  replay(*active);
  const Sequence* key = &active->sequence;
  if (!active->ends) scheduler_.add(active->sequence);
  active_.emplace(key, std::move(active));
  return {};
}

// Brings sampler and answer to where the committed tokens lead. Their text was sent by an earlier
// attempt. Tokens after an end would be another attempt's error: they do not count.
void ModelEngine::replay(Active& active) {
  for (const std::int32_t token : active.spec.committed) {
    active.sampler.observe(token);
    (void)active.answer.append(token);
    if (active.answer.ended()) {
      active.ends = active.answer.ended();
      return;
    }
  }
}

void ModelEngine::cancel(const RequestId& id, std::uint32_t attempt) {
  for (auto& [key, active] : active_) {
    if (active->spec.id != id || active->spec.attempt != attempt) continue;
    scheduler_.remove(active->sequence);
    active->ends = SequenceEnd::Kind::kCancelled;
  }
}

ModelEngine::Active& ModelEngine::active_of(const Sequence* sequence) {
  const auto found = active_.find(sequence);
  FACET_CHECK(found != active_.end());
  return *found->second;
}

std::uint32_t ModelEngine::kv_blocks_free() const {
  return static_cast<std::uint32_t>(blocks_.num_available());
}

std::uint32_t ModelEngine::kv_blocks_total() const {
  return static_cast<std::uint32_t>(blocks_.total());
}

std::uint32_t ModelEngine::kv_blocks_cached() const {
  return static_cast<std::uint32_t>(blocks_.num_cached());
}

Status ModelEngine::check_conservation() const {
  FACET_TRY_STATUS(scheduler_.check_conservation());
  const std::size_t scheduled = scheduler_.num_running() + scheduler_.num_waiting();
  if (scheduled > active_.size())
    return Error(Code::kInternal, "the scheduler holds " + std::to_string(scheduled) +
                                      " sequences, the engine " + std::to_string(active_.size()));
  if (active_.empty() && blocks_.num_available() != blocks_.total())
    return Error(Code::kInternal, std::to_string(blocks_.total() - blocks_.num_available()) +
                                      " KV blocks are held by nobody");
  return {};
}

}  // namespace facet
