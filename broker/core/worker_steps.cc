#include "broker/core/worker_steps.h"

#include <algorithm>
#include <span>
#include <utility>

#include "broker/core/assignments.h"
#include "broker/core/cursors.h"
#include "broker/core/images.h"
#include "broker/core/leases.h"
#include "broker/core/requests.h"
#include "broker/core/rules.h"
#include "broker/core/workers.h"

namespace facet::core {
namespace {

enum class Taken { kYes, kRequestEnded, kProtocolError };

void count_down(Worker& worker, Assignment& assignment, std::size_t tokens) {
  const auto subtract = [&worker](std::uint64_t& from, std::uint64_t amount) {
    amount = std::min(amount, from);
    from -= amount;
    worker.status.outstanding_tokens -= amount;
  };
  worker.tokens_done += assignment.prompt_tokens + tokens;
  subtract(assignment.prompt_tokens, assignment.prompt_tokens);
  subtract(assignment.remaining_tokens, tokens);
}

// Tokens of the current attempt: commits what is new, drops what is a true repetition.
Taken take_tokens(CoreState& s, std::uint32_t index, Request& r, Assignment& assignment,
                  const SequenceUpdate& update, std::string& why) {
  const Handling handling(s, r.record);
  Worker& worker = s.workers[index];
  const auto committed = s.ledger.token_ids(r.record);
  std::size_t known = 0;
  if (!rule_holds(Rule::kIndexFence)) {
    // Whatever comes is taken for what is next.
  } else if (update.index > committed.size()) {
    why = "tokens from " + std::to_string(update.index) + " on, where " +
          std::to_string(committed.size()) + " is next";
    return Taken::kProtocolError;
  } else if (update.index < committed.size()) {
    known = std::min(update.token_ids.size(), committed.size() - update.index);
    if (!std::equal(update.token_ids.begin(),
                    update.token_ids.begin() + static_cast<std::ptrdiff_t>(known),
                    committed.begin() + update.index)) {
      why = "tokens that contradict committed ones, from index " + std::to_string(update.index);
      return Taken::kProtocolError;
    }
    s.counters.duplicate_tokens += known;
  }
  const std::size_t width = r.logprobs_per_token;
  if (update.logprobs.size() != width * update.token_ids.size()) {
    why = std::to_string(update.logprobs.size()) + " logprobs of " +
          std::to_string(update.token_ids.size()) + " tokens, " + std::to_string(width) +
          " of each are due";
    return Taken::kProtocolError;
  }
  const auto ids = std::span(update.token_ids).subspan(known);
  if (ids.empty()) return Taken::kYes;
  const Status appended =
      s.ledger.append(r.record, ids, std::span(update.token_texts).subspan(known),
                      std::span(update.logprobs).subspan(known * width));
  if (!appended) {
    fail(s, r, appended.error().code, appended.error().message);
    return Taken::kRequestEnded;
  }
  if (r.progress.first_token == 0) {
    r.progress.first_token = s.now;
    s.ledger.set_progress(r.record, r.progress);
  }
  s.counters.tokens += ids.size();
  worker.status.tokens += ids.size();
  count_down(worker, assignment, ids.size());
  wake_cursors(s, r);
  return Taken::kYes;
}

void hand_back(CoreState& s, Request& r) {
  ++s.counters.preempted;
  const Nanos back_off = s.limits.preempt_backoff << std::min(r.preemptions, 16u);
  ++r.preemptions;
  forget_worker(s, r);
  r.not_before = s.now + std::min(back_off, s.limits.preempt_backoff_max);
  set_phase(s, r, Phase::kBackoff);
}

// The worker has ended a sequence that the request waits for; its assignment is released already.
void end_request(CoreState& s, Request& r, const SequenceEnd& end, Worker& worker) {
  Ending ending;
  ending.tail = end.text;
  ending.prompt_tokens = end.prompt_tokens;
  ending.image_tokens = end.image_tokens;
  ending.cached_tokens = end.cached_tokens;
  switch (end.kind) {
    case SequenceEnd::Kind::kStop:
      ending.reason = FinishReason::kStop;
      break;
    case SequenceEnd::Kind::kLength:
      ending.reason = FinishReason::kLength;
      break;
    case SequenceEnd::Kind::kError:
      ending.reason = FinishReason::kError;
      ending.code = end.code;
      ending.error = end.message;
      break;
    case SequenceEnd::Kind::kCancelled:  // not asked for: the worker hands it back
    case SequenceEnd::Kind::kPreempted:
    default:
      hand_back(s, r);
      return;
  }
  ++worker.status.finished;
  finish(s, r, std::move(ending));
}

// The worker says it reads the pixels no more.
void images_released(CoreState& s, Request* r, Assignment& assignment) {
  const LeaseId lease = std::exchange(assignment.pixels, 0);
  if (lease == 0) return;
  if (r != nullptr && r->pixels == lease) release_pixels(s, *r);
  unhold_lease(s, lease);
}

}  // namespace

bool apply_update(CoreState& s, std::uint32_t index, const SequenceUpdate& update) {
  AssignmentKey key{update.id, update.attempt};
  if (!rule_holds(Rule::kFence) || !rule_holds(Rule::kAttemptFence)) {
    const Request* known = find_request(s, update.id);
    if (known != nullptr && known->phase == Phase::kRunning) {
      if (!rule_holds(Rule::kFence)) index = known->worker;
      key.attempt = known->progress.attempts;
    }
  }
  Worker& worker = s.workers[index];
  const auto found = worker.assignments.find(key);
  if (found == worker.assignments.end()) {
    ++s.counters.stale_dropped;
    return true;
  }
  Assignment& assignment = found->second;
  if (update.token_ids.size() != update.token_texts.size()) {
    condemn(s, index, "ids and texts of a step differ in number");
    return false;
  }
  Request* r = assignment.is_current ? find_request(s, update.id) : nullptr;
  if (r == nullptr) {
    if (!update.token_ids.empty()) ++s.counters.stale_dropped;
  } else {
    std::string why;
    const Taken taken = take_tokens(s, index, *r, assignment, update, why);
    if (taken == Taken::kProtocolError) {
      condemn(s, index, "request " + update.id.hex() + ": " + why);
      return false;
    }
    if (taken == Taken::kRequestEnded) r = nullptr;
  }
  if (update.images_released) images_released(s, r, assignment);
  if (!update.ended) return true;
  if (r != nullptr) set_phase(s, *r, Phase::kDecoding);  // no longer at the worker
  release_assignment(s, worker, key);
  if (r != nullptr) end_request(s, *r, update.end, worker);
  return true;
}

}  // namespace facet::core
