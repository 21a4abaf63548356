#include "worker/service/output_log.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace facet {

void OutputLog::open(const Key& key, std::uint32_t first, bool has_images) {
  Sequence& sequence = sequences_[key];
  sequence.first = sequence.sent = first;
  sequence.reads_images = has_images;
}

void OutputLog::add(SequenceUpdate update) {
  const Key key{update.id, update.attempt};
  const auto [where, is_new] = sequences_.try_emplace(key);
  Sequence& sequence = where->second;
  if (is_new) sequence.first = sequence.sent = update.index;  // refused before it was opened
  if (update.images_released || update.ended) sequence.reads_images = false;
  if (!sequence.is_unwanted) {
    num_tokens_ += update.token_ids.size();
    std::ranges::copy(update.token_ids, std::back_inserter(sequence.ids));
    std::ranges::move(update.token_texts, std::back_inserter(sequence.texts));
    std::ranges::copy(update.logprobs, std::back_inserter(sequence.logprobs));
  }
  if (update.ended) sequence.end = std::move(update.end);
  if (!sequence.is_unwanted || sequence.end) want_sent(key, sequence);
}

void OutputLog::want_sent(const Key& key, Sequence& sequence) {
  if (std::exchange(sequence.is_unsent, true)) return;
  unsent_.push_back(key);
}

std::vector<SequenceUpdate> OutputLog::take_unsent(std::uint64_t step, std::size_t max_tokens) {
  std::vector<SequenceUpdate> updates;
  while (!unsent_.empty() && max_tokens > 0) {
    const Key key = unsent_.front();
    Sequence& sequence = sequences_.at(key);
    const std::size_t count =
        std::min<std::size_t>(max_tokens, sequence.produced() - sequence.sent);
    const auto begin = static_cast<std::ptrdiff_t>(sequence.sent - sequence.first);
    const auto end = begin + static_cast<std::ptrdiff_t>(count);
    SequenceUpdate& update = updates.emplace_back();
    update.id = key.id;
    update.attempt = key.attempt;
    update.index = sequence.sent;
    update.token_ids.assign(sequence.ids.begin() + begin, sequence.ids.begin() + end);
    update.token_texts.assign(sequence.texts.begin() + begin, sequence.texts.begin() + end);
    update.logprobs.assign(sequence.logprobs.begin() + sequence.logprobs_of(begin),
                           sequence.logprobs.begin() + sequence.logprobs_of(end));
    update.images_released = !sequence.reads_images;
    sequence.sent += static_cast<std::uint32_t>(count);
    if (count > 0) sequence.marks.push_back({step, sequence.sent});
    max_tokens -= count;
    if (sequence.sent < sequence.produced()) break;
    sequence.is_unsent = false;
    unsent_.pop_front();
    if (!sequence.end) continue;
    update.ended = true;
    update.end = *sequence.end;
    sequence.end_step = step;
  }
  return updates;
}

void OutputLog::acknowledge(std::uint64_t step) {
  for (auto it = sequences_.begin(); it != sequences_.end();) {
    Sequence& sequence = it->second;
    while (!sequence.marks.empty() && sequence.marks.front().step <= step) {
      drop_tokens(sequence, sequence.marks.front().end);
      sequence.marks.pop_front();
    }
    const bool is_over = sequence.end_step != 0 && sequence.end_step <= step;
    it = is_over ? sequences_.erase(it) : std::next(it);
  }
}

void OutputLog::drop_tokens(Sequence& sequence, std::uint32_t before) {
  const auto count = static_cast<std::ptrdiff_t>(before - sequence.first);
  sequence.logprobs.erase(sequence.logprobs.begin(),
                          sequence.logprobs.begin() + sequence.logprobs_of(count));
  sequence.ids.erase(sequence.ids.begin(), sequence.ids.begin() + count);
  sequence.texts.erase(sequence.texts.begin(), sequence.texts.begin() + count);
  sequence.first = before;
  num_tokens_ -= static_cast<std::size_t>(count);
}

void OutputLog::drop_all_tokens(Sequence& sequence) {
  drop_tokens(sequence, sequence.produced());
  sequence.sent = sequence.first;
  sequence.marks.clear();
}

std::vector<HeldSequence> OutputLog::held() {
  std::vector<HeldSequence> held;
  unsent_.clear();
  for (auto& [key, sequence] : sequences_) {
    sequence.is_unsent = false;
    sequence.was_held = !sequence.end.has_value();
    held.push_back({key.id, key.attempt, sequence.produced(), sequence.reads_images,
                    sequence.end.has_value()});
  }
  return held;
}

Result<std::vector<OutputLog::Key>> OutputLog::resume(const Resume& answer) {
  std::map<Key, std::uint32_t> from;
  for (const ResumePoint& point : answer.sequences) from[{point.id, point.attempt}] = point.from;
  std::vector<Key> cancelled;
  for (auto it = sequences_.begin(); it != sequences_.end();) {
    const Key& key = it->first;
    Sequence& sequence = it->second;
    sequence.marks.clear();
    sequence.end_step = 0;
    const auto point = from.find(key);
    if (point != from.end()) {
      if (point->second < sequence.first || point->second > sequence.produced()) {
        return Error(Code::kCorrupt, "the broker asks for tokens of " + key.id.hex() + " from " +
                                         std::to_string(point->second) + " on; there are " +
                                         std::to_string(sequence.first) + " to " +
                                         std::to_string(sequence.produced()));
      }
      drop_tokens(sequence, point->second);
      sequence.sent = sequence.first;
      want_sent(key, sequence);
    } else if (!sequence.was_held) {
      drop_all_tokens(sequence);
      it = sequences_.erase(it);
      continue;
    } else {
      // Also one that has ended since the hello: the broker waits to hear it.
      drop_all_tokens(sequence);
      sequence.is_unwanted = true;
      if (sequence.end) {
        sequence.end = SequenceEnd{.kind = SequenceEnd::Kind::kCancelled};
        want_sent(key, sequence);
      } else {
        cancelled.push_back(key);
      }
    }
    ++it;
  }
  return cancelled;
}

}  // namespace facet
