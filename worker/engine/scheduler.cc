#include "worker/engine/scheduler.h"

#include <algorithm>
#include <string>

#include "common/base/check.h"
#include "worker/engine/prefix_keys.h"

namespace facet {
namespace {

void insert_ordered(std::vector<Sequence*>& list, Sequence* sequence) {
  const auto place =
      std::upper_bound(list.begin(), list.end(), sequence,
                       [](const Sequence* a, const Sequence* b) { return a->goes_before(*b); });
  list.insert(place, sequence);
}

}  // namespace

void Scheduler::add(Sequence& sequence) {
  FACET_CHECK(sequence.num_left() > 0);
  sequence.arrival = next_arrival_++;
  insert_ordered(waiting_, &sequence);
}

StepPlan Scheduler::schedule() {
  StepPlan plan;
  tokens_left_ = limits_.max_step_tokens;
  rows_short_ = false;
  schedule_decodes(plan);
  for (Sequence* sequence : running_)
    if (!sequence->is_decoding()) schedule_prefill(*sequence, plan);
  while (tokens_left_ > 0 && start_next()) schedule_prefill(*running_.back(), plan);
  std::sort(running_.begin(), running_.end(),
            [](const Sequence* a, const Sequence* b) { return a->goes_before(*b); });
  return plan;
}

// Oldest first, so that whoever is preempted has no chunk in the plan yet.
void Scheduler::schedule_decodes(StepPlan& plan) {
  for (std::size_t i = 0; i < running_.size() && tokens_left_ > 0; ++i) {
    Sequence& sequence = *running_[i];
    if (!sequence.is_decoding()) continue;
    if (!grow(sequence, plan)) return;  // it was the last one itself
    plan.chunks.push_back({&sequence, sequence.num_computed, 1, 0, 0});
    --tokens_left_;
  }
}

std::int32_t Scheduler::missing_blocks(const Sequence& sequence) const {
  return blocks_.blocks_for(sequence.num_tokens()) -
         static_cast<std::int32_t>(sequence.blocks.size());
}

bool Scheduler::would_preempt() const {
  std::int32_t missing = 0;
  for (const Sequence* sequence : running_)
    if (sequence->is_decoding()) missing += missing_blocks(*sequence);
  return missing > blocks_.num_available();
}

// A block for the next token; preempts from the end of the order until there is one. False: the
// sequence itself had to go.
bool Scheduler::grow(Sequence& sequence, StepPlan& plan) {
  const std::int32_t missing = missing_blocks(sequence);
  while (missing > 0 && !blocks_.acquire(missing, sequence.blocks)) {
    Sequence* victim = running_.back();
    release(*victim);
    running_.pop_back();
    plan.preempted.push_back(victim);
    if (victim == &sequence) return false;
  }
  return true;
}

void Scheduler::schedule_prefill(Sequence& sequence, StepPlan& plan) {
  if (tokens_left_ == 0) return;
  ScheduledChunk chunk{&sequence, sequence.num_computed,
                       std::min(sequence.num_left(), tokens_left_), sequence.num_encoded,
                       sequence.num_encoded};
  if (!reserve_rows(sequence, chunk)) return;
  tokens_left_ -= chunk.count;
  plan.chunks.push_back(chunk);
}

// Rows for the images that begin inside the chunk; ends the chunk before the first image for which
// there is no room. False: nothing is left of it.
bool Scheduler::reserve_rows(Sequence& sequence, ScheduledChunk& chunk) {
  const auto& images = sequence.prompt.images;
  for (; chunk.encode_end < images.size(); ++chunk.encode_end) {
    const ImageSpan& image = images[chunk.encode_end];
    if (image.first >= chunk.first + chunk.count) break;
    const auto row = rows_short_ ? std::nullopt : rows_.acquire(image.count, image.key);
    if (!row) {
      rows_short_ = true;
      chunk.count = image.first - chunk.first;  // below 0 behind an adopted part of the image
      break;
    }
    sequence.image_rows[chunk.encode_end] = *row;
  }
  sequence.num_encoded = chunk.encode_end;
  return chunk.count > 0;
}

// Moves the first waiting sequence to running_ when a lane and its blocks are there. Never a later
// one: it would overtake.
bool Scheduler::start_next() {
  if (waiting_.empty() || static_cast<std::int32_t>(running_.size()) >= limits_.max_lanes)
    return false;
  Sequence& sequence = *waiting_.front();
  adopt_prefix(sequence);
  if (!blocks_.acquire(missing_blocks(sequence), sequence.blocks)) {
    blocks_.release(sequence.blocks);
    sequence.num_adopted = 0;
    return false;
  }
  sequence.num_remembered = static_cast<std::size_t>(sequence.num_adopted / blocks_.block_tokens());
  sequence.num_computed = sequence.num_adopted;
  const auto& images = sequence.prompt.images;
  while (sequence.num_encoded < images.size() &&
         images[sequence.num_encoded].first + images[sequence.num_encoded].count <=
             sequence.num_computed)
    ++sequence.num_encoded;
  take_lane(sequence);
  waiting_.erase(waiting_.begin());
  running_.push_back(&sequence);
  return true;
}

// Begins with the cached blocks of the longest known prefix. One token at least is computed: its
// logits give the next one.
void Scheduler::adopt_prefix(Sequence& sequence) {
  if (!limits_.prefix_cache) return;
  const std::int32_t most = (sequence.num_known() - 1) / blocks_.block_tokens();
  extend_prefix_keys(sequence, blocks_.block_tokens(), most, sequence.block_keys);
  const auto count = std::min(sequence.block_keys.size(), static_cast<std::size_t>(most));
  blocks_.adopt(std::span(sequence.block_keys).first(count), sequence.blocks);
  sequence.num_adopted = static_cast<std::int32_t>(sequence.blocks.size()) * blocks_.block_tokens();
}

// Tells the pool the content of blocks that became full of known tokens. They may be used from the
// step launched next.
void Scheduler::remember_blocks(Sequence& sequence) {
  if (!limits_.prefix_cache) return;
  const std::int32_t full =
      std::min(sequence.num_computed, sequence.num_known()) / blocks_.block_tokens();
  extend_prefix_keys(sequence, blocks_.block_tokens(), full, sequence.block_keys);
  const auto count = std::min(sequence.block_keys.size(), static_cast<std::size_t>(full));
  for (std::size_t& i = sequence.num_remembered; i < count; ++i)
    blocks_.remember(sequence.blocks[i], sequence.block_keys[i]);
}

// The lowest free one, so that the lanes in use stay close together.
void Scheduler::take_lane(Sequence& sequence) {
  const auto lane = std::find(lane_used_.begin(), lane_used_.end(), false);
  FACET_CHECK(lane != lane_used_.end());
  *lane = true;
  sequence.lane = static_cast<std::int32_t>(lane - lane_used_.begin());
}

void Scheduler::complete(const ScheduledChunk& chunk) {
  Sequence& sequence = *chunk.sequence;
  sequence.num_computed += chunk.count;
  sequence.lane_started = true;
  remember_blocks(sequence);
  for (std::size_t i = 0; i < sequence.num_encoded; ++i) {
    const ImageSpan& image = sequence.prompt.images[i];
    if (sequence.image_rows[i] == Sequence::kNotHeld) continue;
    if (image.first + image.count > sequence.num_computed) continue;
    rows_.release(sequence.image_rows[i]);
    sequence.image_rows[i] = Sequence::kNotHeld;
  }
}

void Scheduler::release(Sequence& sequence) {
  if (!sequence.blocks.empty()) remember_blocks(sequence);
  blocks_.release(sequence.blocks);
  for (std::int32_t& row : sequence.image_rows) {
    if (row != Sequence::kNotHeld) rows_.release(row);
    row = Sequence::kNotHeld;
  }
  if (sequence.lane != Sequence::kNotHeld)
    lane_used_[static_cast<std::size_t>(sequence.lane)] = false;
  sequence.lane = Sequence::kNotHeld;
}

void Scheduler::remove(Sequence& sequence) {
  release(sequence);
  std::erase(waiting_, &sequence);
  std::erase(running_, &sequence);
}

void Scheduler::discard(Sequence& sequence) {
  remove(sequence);
  blocks_.forget(sequence.block_keys);
}

Status Scheduler::check_conservation() const {
  std::vector<const std::vector<std::int32_t>*> tables;
  for (const Sequence* sequence : running_) tables.push_back(&sequence->blocks);
  FACET_TRY_STATUS(blocks_.check(tables));
  const auto lanes = std::count(lane_used_.begin(), lane_used_.end(), true);
  if (static_cast<std::size_t>(lanes) != running_.size())
    return Error(Code::kInternal, std::to_string(lanes) + " lanes are held by " +
                                      std::to_string(running_.size()) + " running sequences");
  if (!running_.empty()) return {};
  return rows_.check_not_held();
}

}  // namespace facet
