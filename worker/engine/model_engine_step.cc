// ModelEngine::step(): launch what can be launched, then collect the oldest step.
// A runner that can have two steps in flight gets the next one before the host knows what the last
// one chose: decoding sequences go on with kChosenBefore. Ends by length are known in advance and
// not overrun. An end found in the token itself is found one step late, and the token in flight
// behind it is dropped.
#include <algorithm>
#include <limits>
#include <set>
#include <utility>

#include "common/base/check.h"
#include "worker/engine/active_request.h"
#include "worker/engine/model_engine.h"

namespace facet {
namespace {

constexpr std::int32_t kChosenBeforeIds[] = {kChosenBefore};

// What the spans of a SequenceChunk point to, besides the sequence.
struct ChunkStorage {
  std::vector<ImageRows> rows;
  Position position{};
};

SequenceChunk to_runner_chunk(const ScheduledChunk& chunk, ChunkStorage& storage) {
  const Sequence& sequence = *chunk.sequence;
  const std::int32_t end = chunk.first + chunk.count;
  SequenceChunk out;
  if (chunk.first >= sequence.num_known()) {
    FACET_CHECK(chunk.count == 1);
    storage.position = sequence.position_of_answer(chunk.first);
    out.token_ids = kChosenBeforeIds;
    out.positions = {&storage.position, 1};
  } else {
    FACET_CHECK(end <= sequence.num_known());
    const auto first = static_cast<std::size_t>(chunk.first);
    const auto count = static_cast<std::size_t>(chunk.count);
    out.token_ids = std::span(sequence.tokens).subspan(first, count);
    out.positions = std::span(sequence.positions).subspan(first, count);
  }
  for (std::size_t i = 0; i < sequence.prompt.images.size(); ++i) {
    const ImageSpan& image = sequence.prompt.images[i];
    const std::int32_t from = std::max(image.first, chunk.first);
    const std::int32_t to = std::min(image.first + image.count, end);
    if (from >= to) continue;
    FACET_CHECK(sequence.image_rows[i] != Sequence::kNotHeld);
    storage.rows.push_back(
        {from - chunk.first, to - from, sequence.image_rows[i] + from - image.first});
  }
  out.context_tokens = chunk.first;
  out.blocks = sequence.blocks;
  out.image_rows = storage.rows;
  out.lane = sequence.lane;
  out.starts_lane = !sequence.lane_started;
  return out;
}

EncodeJob to_job(const ImageView& view, const ImageSpan& span, std::int32_t pool_row) {
  EncodeJob job;
  job.pixels = {view.pixels, {view.height, view.width}, std::size_t{3} * view.width};
  job.grid_height = span.grid_height;
  job.grid_width = span.grid_width;
  job.pool_row = pool_row;
  job.is_current = view.is_current;
  return job;
}

}  // namespace

Result<std::vector<SequenceUpdate>> ModelEngine::step() {
  Updates updates;
  end_waiting_ends(updates);
  end_overdue(updates);
  const auto depth = static_cast<std::size_t>(std::max(1, parts_.runner->max_in_flight()));
  while (in_flight_.size() < depth)
    if (!FACET_TRY(launch_next(updates))) break;
  if (!in_flight_.empty())
    FACET_TRY_STATUS(collect_oldest(updates));
  else if (updates.empty() && !active_.empty())
    return Error(Code::kInternal, "a step found nothing that it could do");
  tell_released_images(updates);
  return updates;
}

// Cancelled sequences, and those whose committed tokens were the whole answer.
void ModelEngine::end_waiting_ends(Updates& updates) {
  std::vector<Active*> ending;
  for (auto& [key, active] : active_)
    if (active->ends) ending.push_back(active.get());
  for (Active* active : ending) finish(*active, *active->ends, active->make_update(), updates);
}

// Whoever asked has given up on them by now, even if nobody is there to say so.
void ModelEngine::end_overdue(Updates& updates) {
  if (!parts_.clock) return;
  const Nanos now = parts_.clock();
  std::vector<Active*> overdue;
  for (auto& [key, active] : active_)
    if (active->spec.deadline != 0 && active->spec.deadline <= now) overdue.push_back(active.get());
  for (Active* active : overdue)
    finish_error(*active,
                 Error(Code::kTimeout, "the deadline passed after " +
                                           std::to_string(active->answer.num_tokens()) + " tokens"),
                 updates);
}

// False: there was nothing to launch, or nothing before the steps in flight are known.
Result<bool> ModelEngine::launch_next(Updates& updates) {
  if (scheduler_.num_running() + scheduler_.num_waiting() == 0) return false;
  if (!in_flight_.empty() && scheduler_.would_preempt()) return false;
  StepPlan plan = scheduler_.schedule();
  for (Sequence* sequence : plan.preempted) {
    Active& active = active_of(sequence);
    finish(active, SequenceEnd::Kind::kPreempted, active.make_update(), updates);
  }
  FACET_TRY_STATUS(encode_all(plan, updates));
  if (plan.chunks.empty()) return false;
  FACET_TRY_STATUS(launch(plan));
  note_launched(plan);
  return true;
}

// The images of the step whose output is not there yet, each once. A sequence whose image fails
// ends alone and leaves the plan; another one that shows the same image has pixels of its own.
Status ModelEngine::encode_all(StepPlan& plan, Updates& updates) {
  while (FACET_TRY(encode_once(plan, updates))) {
  }
  return {};
}

// False: nothing was left to encode.
Result<bool> ModelEngine::encode_once(StepPlan& plan, Updates& updates) {
  std::vector<EncodeJob> jobs;
  std::vector<std::pair<const Sequence*, std::int32_t>> owners;  // and the request's image
  std::set<std::int32_t> rows;
  for (const ScheduledChunk& chunk : plan.chunks) {
    const Active& active = active_of(chunk.sequence);
    for (std::size_t i = chunk.encode_begin; i < chunk.encode_end; ++i) {
      const std::int32_t row = chunk.sequence->image_rows[i];
      if (rows_.is_filled(row) || !rows.insert(row).second) continue;
      const ImageSpan& span = chunk.sequence->prompt.images[i];
      jobs.push_back(to_job(active.spec.images[static_cast<std::size_t>(span.image)], span, row));
      owners.emplace_back(chunk.sequence, span.image);
    }
  }
  if (jobs.empty()) return false;
  parts_.tick(WorkerPhase::kEncode);
  const std::vector<Status> encoded = FACET_TRY(parts_.runner->encode(jobs, parts_.tick));
  FACET_CHECK(encoded.size() == jobs.size());
  for (std::size_t i = 0; i < jobs.size(); ++i)
    if (encoded[i]) rows_.set_filled(jobs[i].pool_row);
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    const auto& [sequence, image] = owners[i];
    if (encoded[i] || !active_.contains(sequence)) continue;  // or another image ended it already
    const Error& error = encoded[i].error();
    const std::string name = "image " + std::to_string(image) + ": ";
    finish_error(active_of(sequence), Error(error.code, name + error.message), updates);
  }
  std::erase_if(plan.chunks,
                [&](const ScheduledChunk& chunk) { return !active_.contains(chunk.sequence); });
  return true;
}

Status ModelEngine::launch(const StepPlan& plan) {
  std::vector<ChunkStorage> storage(plan.chunks.size());
  std::vector<SequenceChunk> chunks;
  for (std::size_t i = 0; i < plan.chunks.size(); ++i) {
    SequenceChunk& chunk = chunks.emplace_back(to_runner_chunk(plan.chunks[i], storage[i]));
    if (!plan.chunks[i].reaches_end()) continue;
    const Active& active = active_of(plan.chunks[i].sequence);
    chunk.sampler = &active.sampler;
    chunk.answer_index =
        active.answer.num_tokens() + static_cast<std::uint32_t>(active.sequence.num_pending);
  }
  return parts_.runner->launch(chunks, parts_.tick);
}

void ModelEngine::note_launched(const StepPlan& plan) {
  InFlight& choosing = in_flight_.emplace_back();
  for (const ScheduledChunk& chunk : plan.chunks) {
    Active& active = active_of(chunk.sequence);
    const bool chooses = chunk.reaches_end();
    scheduler_.complete(chunk);
    if (active.all_encoded() && !std::exchange(active.images_released, true)) {
      active.release_is_due = true;
      releasable_.push_back(chunk.sequence);
    }
    if (!chooses) continue;
    choosing.push_back(&active);
    ++active.sequence.num_pending;
    // What it holds may serve another sequence in the very next step.
    if (active.all_launched()) scheduler_.remove(active.sequence);
  }
}

Status ModelEngine::collect_oldest(Updates& updates) {
  const auto chosen = FACET_TRY(parts_.runner->collect());
  const InFlight choosing = std::move(in_flight_.front());
  in_flight_.pop_front();
  FACET_CHECK(chosen.size() == choosing.size());
  for (std::size_t i = 0; i < choosing.size(); ++i)
    if (choosing[i] != nullptr) take_token(*choosing[i], chosen[i], updates);
  return {};
}

void ModelEngine::take_token(Active& active, const ChosenToken& chosen, Updates& updates) {
  if (chosen.not_finite) {
    scheduler_.discard(active.sequence);
    finish_error(active, Error(Code::kInternal, kNotFiniteMessage + parts_.not_finite_hint),
                 updates);
    return;
  }
  FACET_CHECK(chosen.token >= 0 && chosen.token < parts_.sampling.vocab_size);
  SequenceUpdate update = active.make_update();
  update.images_released = std::exchange(active.release_is_due, false);
  --active.sequence.num_pending;
  active.sampler.observe(chosen.token);
  active.sequence.append(chosen.token);
  update.token_ids.push_back(chosen.token);
  update.token_texts.push_back(active.answer.append(chosen.token));
  if (active.sampler.num_logprobs() >= 0) {
    // Always as many: a vocabulary may have fewer tokens than were asked for.
    update.logprobs = chosen.top;
    update.logprobs.resize(static_cast<std::size_t>(active.sampler.num_logprobs()),
                           {-1, -std::numeric_limits<float>::infinity()});
    update.logprobs.insert(update.logprobs.begin(), {chosen.token, chosen.logprob});
  }
  if (active.answer.ended())
    finish(active, *active.answer.ended(), std::move(update), updates);
  else
    updates.push_back(std::move(update));
}

// Of sequences whose images were encoded, but whose first token is to come.
void ModelEngine::tell_released_images(Updates& updates) {
  for (const Sequence* sequence : std::exchange(releasable_, {})) {
    const auto found = active_.find(sequence);
    if (found == active_.end() || !std::exchange(found->second->release_is_due, false)) continue;
    updates.push_back(found->second->make_update());
    updates.back().images_released = true;
  }
}

void ModelEngine::finish(Active& active, SequenceEnd::Kind kind, SequenceUpdate update,
                         Updates& updates) {
  update.ended = true;
  update.end.kind = kind;
  update.end.prompt_tokens = static_cast<std::uint32_t>(active.sequence.prompt.token_ids.size());
  update.end.image_tokens = active.num_image_tokens();
  update.end.cached_tokens =
      std::min(update.end.prompt_tokens, static_cast<std::uint32_t>(active.sequence.num_adopted));
  const bool complete = kind == SequenceEnd::Kind::kStop || kind == SequenceEnd::Kind::kLength ||
                        kind == SequenceEnd::Kind::kCancelled;
  if (complete) update.end.text = active.answer.finish();
  updates.push_back(std::move(update));
  scheduler_.remove(active.sequence);
  for (InFlight& choosing : in_flight_)
    std::replace(choosing.begin(), choosing.end(), &active, static_cast<Active*>(nullptr));
  active_.erase(&active.sequence);
}

void ModelEngine::finish_error(Active& active, const Error& error, Updates& updates) {
  SequenceUpdate update = active.make_update();
  update.end.code = error.code;
  update.end.message = error.message;
  finish(active, SequenceEnd::Kind::kError, std::move(update), updates);
}

}  // namespace facet
