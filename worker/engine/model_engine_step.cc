// ModelEngine::step(): plan, encode images, compute, choose tokens.
#include <algorithm>
#include <utility>

#include "common/base/check.h"
#include "worker/engine/active_request.h"
#include "worker/engine/model_engine.h"

namespace facet {

Result<std::vector<SequenceUpdate>> ModelEngine::step() {
  Updates updates;
  end_waiting_ends(updates);
  if (scheduler_.num_running() + scheduler_.num_waiting() == 0) return updates;
  StepPlan plan = scheduler_.schedule();
  for (Sequence* sequence : plan.preempted) {
    Active& active = active_of(sequence);
    finish(active, SequenceEnd::Kind::kPreempted, active.make_update(), updates);
  }
  encode_all(plan, updates);
  if (plan.chunks.empty()) {
    if (updates.empty()) return Error(Code::kInternal, "a step found nothing that it could do");
    return updates;
  }
  const LogitsView logits = FACET_TRY(run_forward(plan));
  std::int32_t row = 0;
  for (const ScheduledChunk& chunk : plan.chunks) {
    Active& active = active_of(chunk.sequence);
    SequenceUpdate update = active.make_update();
    const bool samples = chunk.reaches_end();
    scheduler_.complete(chunk);
    const bool all_encoded = !active.spec.images.empty() &&
                             active.sequence.num_encoded == active.sequence.prompt.images.size();
    update.images_released = all_encoded && !std::exchange(active.images_released, all_encoded);
    if (samples) take_token(active, logits.row(row++), update);
    if (update.ended)
      finish_error(active, Error(update.end.code, update.end.message), updates);
    else if (active.answer.ended())
      finish(active, *active.answer.ended(), std::move(update), updates);
    else if (samples || update.images_released)
      updates.push_back(std::move(update));
  }
  return updates;
}

// Cancelled sequences, and those whose committed tokens were the whole answer.
void ModelEngine::end_waiting_ends(Updates& updates) {
  std::vector<Active*> ending;
  for (auto& [key, active] : active_)
    if (active->ends) ending.push_back(active.get());
  for (Active* active : ending) finish(*active, *active->ends, active->make_update(), updates);
}

Status ModelEngine::encode_one(Active& active, std::size_t image) {
  const ImageSpan& span = active.sequence.prompt.images[image];
  const ImageView& view = active.spec.images[static_cast<std::size_t>(span.image)];
  parts_.tick(WorkerPhase::kEncode);
  const ImagePatches patches = FACET_TRY(parts_.input->preprocess(view, span, patches_));
  // Only now, after the last read, is it known whose pixels these were.
  if (view.is_current && !view.is_current())
    return Error(Code::kCorrupt,
                 "image " + std::to_string(span.image) + ": its slot was given to another request");
  return parts_.runner->encode(patches, active.sequence.image_rows[image], parts_.tick);
}

Status ModelEngine::encode_images(const ScheduledChunk& chunk) {
  Active& active = active_of(chunk.sequence);
  for (std::size_t image = chunk.encode_begin; image < chunk.encode_end; ++image)
    FACET_TRY_STATUS(encode_one(active, image));
  return {};
}

// A sequence whose image fails ends alone and leaves the plan.
void ModelEngine::encode_all(StepPlan& plan, Updates& updates) {
  std::erase_if(plan.chunks, [&](const ScheduledChunk& chunk) {
    const Status encoded = encode_images(chunk);
    if (!encoded) finish_error(active_of(chunk.sequence), encoded.error(), updates);
    return !encoded;
  });
}

SequenceChunk ModelEngine::to_runner_chunk(const ScheduledChunk& chunk,
                                           std::vector<ImageRows>& rows) const {
  const Sequence& sequence = *chunk.sequence;
  const std::int32_t end = chunk.first + chunk.count;
  for (std::size_t i = 0; i < sequence.prompt.images.size(); ++i) {
    const ImageSpan& image = sequence.prompt.images[i];
    const std::int32_t from = std::max(image.first, chunk.first);
    const std::int32_t to = std::min(image.first + image.count, end);
    if (from >= to) continue;
    FACET_CHECK(sequence.image_rows[i] != Sequence::kNotHeld);
    rows.push_back({from - chunk.first, to - from, sequence.image_rows[i] + from - image.first});
  }
  const auto first = static_cast<std::size_t>(chunk.first);
  const auto count = static_cast<std::size_t>(chunk.count);
  return {std::span(sequence.tokens).subspan(first, count),
          std::span(sequence.positions).subspan(first, count),
          chunk.first,
          sequence.blocks,
          rows,
          chunk.reaches_end()};
}

Result<LogitsView> ModelEngine::run_forward(const StepPlan& plan) {
  std::vector<std::vector<ImageRows>> rows(plan.chunks.size());
  std::vector<SequenceChunk> chunks;
  for (std::size_t i = 0; i < plan.chunks.size(); ++i)
    chunks.push_back(to_runner_chunk(plan.chunks[i], rows[i]));
  return parts_.runner->forward(chunks, parts_.tick);
}

void ModelEngine::take_token(Active& active, std::span<const float> logits,
                             SequenceUpdate& update) {
  const Result<std::int32_t> token = active.sampler.choose(logits, scores_);
  if (!token) {
    update.ended = true;
    update.end.code = token.error().code;
    update.end.message = token.error().message;
    return;
  }
  active.sampler.observe(*token);
  active.sequence.append(*token);
  update.token_ids.push_back(*token);
  update.token_texts.push_back(active.answer.append(*token));
}

void ModelEngine::finish(Active& active, SequenceEnd::Kind kind, SequenceUpdate update,
                         Updates& updates) {
  update.ended = true;
  update.end.kind = kind;
  update.end.prompt_tokens = static_cast<std::uint32_t>(active.sequence.prompt.token_ids.size());
  update.end.image_tokens = active.num_image_tokens();
  const bool complete = kind == SequenceEnd::Kind::kStop || kind == SequenceEnd::Kind::kLength ||
                        kind == SequenceEnd::Kind::kCancelled;
  if (complete) update.end.text = active.answer.finish();
  updates.push_back(std::move(update));
  scheduler_.remove(active.sequence);
  active_.erase(&active.sequence);
}

void ModelEngine::finish_error(Active& active, const Error& error, Updates& updates) {
  SequenceUpdate update = active.make_update();
  update.end.code = error.code;
  update.end.message = error.message;
  finish(active, SequenceEnd::Kind::kError, std::move(update), updates);
}

}  // namespace facet
