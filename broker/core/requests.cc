#include "broker/core/requests.h"

#include <algorithm>
#include <utility>

#include "broker/core/cursors.h"
#include "broker/core/eta.h"
#include "broker/core/leases.h"
#include "broker/core/rules.h"
#include "broker/core/users.h"
#include "broker/core/workers.h"
#include "common/base/check.h"

namespace facet::core {
namespace {

constexpr std::size_t kCompletionsKept = 64;
constexpr Nanos kHour = 3600 * kSecond;
constexpr Nanos kNoteEvery = kSecond;  // so much less a next broker may know

int group(const Request& r) {
  return r.is_suspect() ? 1 : 0;
}

void enter_queue(CoreState& s, Request& r) {
  ++s.num_queued[static_cast<int>(r.key.priority)];
  ++user_of(s, r.user).queued;
  const std::uint64_t done = s.ledger.num_tokens(r.record);
  const std::uint64_t asked = r.max_tokens;
  r.queued_tokens = r.prompt_estimate + (asked > done ? asked - done : 0);
  s.queued_tokens += r.queued_tokens;
}

void leave_queue(CoreState& s, Request& r) {
  --s.num_queued[static_cast<int>(r.key.priority)];
  --s.users.at(r.user).queued;
  s.queued_tokens -= r.queued_tokens;
}

void leave_phase(CoreState& s, Request& r) {
  if (r.is_queued()) leave_queue(s, r);
  if (r.phase == Phase::kRunning) --s.num_running;
  if (r.holding_as >= 0) --s.num_holding[r.holding_as];
  r.holding_as = -1;
  // A request becomes a suspect in no phase that has a queue, so the group is the one it entered.
  if (r.phase == Phase::kWaiting) s.waiting[group(r)].erase(r.key);
  if (r.phase == Phase::kReady) s.ready[group(r)].erase(r.key);
  if (r.phase == Phase::kBackoff) s.backoff_timers.erase({r.not_before, r.id});
}

void erase_request(CoreState& s, const RequestId& id) {
  const auto found = s.requests.find(id);
  Request& r = found->second;
  FACET_CHECK(r.phase == Phase::kTerminal && r.encoded == 0 && r.pixels == 0);
  drop_cursors(s, r);
  s.evictable.erase({r.kept_since, id});
  s.ledger.erase(r.record);
  s.requests.erase(found);
}

void release_owner(CoreState& s, Request& r) {
  const auto client = s.clients.find(r.owner);
  if (client == s.clients.end() || !rule_holds(Rule::kQuotaGivenBack)) return;
  --client->second.requests;
  client->second.bytes -= r.owner_bytes;
  r.owner = 0;
}

void count_completion(CoreState& s, const Ending& ending) {
  ++s.counters.done[static_cast<std::size_t>(ending.reason)];
  if (ending.reason == FinishReason::kError) {
    ++s.counters.failed[static_cast<std::size_t>(ending.code)];
  }
  s.completions.push_back(s.now);
  if (s.completions.size() > kCompletionsKept) s.completions.pop_front();
}

}  // namespace

Request* find_request(CoreState& s, const RequestId& id) {
  const auto found = s.requests.find(id);
  return found == s.requests.end() ? nullptr : &found->second;
}

void set_phase(CoreState& s, Request& r, Phase phase) {
  leave_phase(s, r);
  r.phase = phase;
  if (r.is_queued()) {
    enter_queue(s, r);
    r.holding_as = r.pixels != 0 ? group(r) : -1;
    if (r.holding_as >= 0) ++s.num_holding[r.holding_as];
  }
  if (phase == Phase::kRunning) ++s.num_running;
  if (phase == Phase::kWaiting) s.waiting[group(r)].emplace(r.key, r.id);
  if (phase == Phase::kReady) s.ready[group(r)].emplace(r.key, r.id);
  if (phase == Phase::kBackoff) s.backoff_timers.emplace(r.not_before, r.id);
}

void enqueue(CoreState& s, Request& r) {
  const bool needs_pixels = !r.images.empty() && r.pixels == 0;
  set_phase(s, r, needs_pixels ? Phase::kWaiting : Phase::kReady);
}

Request& add_request(CoreState& s, Request r) {
  const RequestId id = r.id;
  const auto [where, is_new] = s.requests.emplace(id, std::move(r));
  FACET_CHECK(is_new);
  Request& added = where->second;
  if (added.is_unfinished()) {
    ++s.num_unfinished;
    count_request(s, added);
    enter_queue(s, added);  // as kDecoding, until enqueue()
    added.phase = Phase::kDecoding;
  }
  return added;
}

void start_timer(CoreState& s, Request& r, Nanos when) {
  s.request_timers.erase({r.timer, r.id});
  r.timer = when;
  s.request_timers.emplace(when, r.id);
}

void finish(CoreState& s, Request& r, Ending ending) {
  FACET_CHECK(r.is_unfinished());
  const Handling handling(s, r.record);
  if (r.phase == Phase::kRunning) abandon_assignment(s, r);
  TerminalRecord terminal;
  terminal.reason = static_cast<std::uint8_t>(ending.reason);
  terminal.code = static_cast<std::uint16_t>(ending.code);
  terminal.prompt_tokens = ending.prompt_tokens;
  terminal.image_tokens = ending.image_tokens;
  terminal.cached_tokens = ending.cached_tokens;
  terminal.finished = r.kept_since = s.now;
  terminal.tail = ending.tail;
  terminal.error = ending.reason == FinishReason::kError ? ending.error : std::string();
  const Status finished = s.ledger.finish(r.record, terminal);
  if (!finished) {
    ending.reason = FinishReason::kError;
    ending.code = finished.error().code;
    terminal.reason = static_cast<std::uint8_t>(ending.reason);
    terminal.code = static_cast<std::uint16_t>(ending.code);
    terminal.tail.clear();
    terminal.error = finished.error().message;
    FACET_CHECK(s.ledger.finish(r.record, terminal).has_value());
  }
  retire_lease(s, r.pixels);
  retire_lease(s, r.encoded);
  set_phase(s, r, Phase::kTerminal);
  --s.num_unfinished;
  uncount_request(s, r);
  if (ending.reason == FinishReason::kStop || ending.reason == FinishReason::kLength) {
    learn_length(s, r.prompt_estimate + s.ledger.num_tokens(r.record),
                 r.prompt_estimate + r.max_tokens);
  }
  release_owner(s, r);
  count_completion(s, ending);
  start_timer(s, r, s.now + s.limits.record_ttl);
  index_eviction(s, r);
  wake_cursors(s, r);
}

void fail(CoreState& s, Request& r, Code code, std::string error) {
  Ending ending;
  ending.code = code;
  ending.error = std::move(error);
  finish(s, r, std::move(ending));
}

void cancel_request(CoreState& s, ClientToken client, const RequestId& id) {
  Request* r = find_request(s, id);
  if (r == nullptr) {
    refuse(s, client, Refused{id, Code::kNotFound, "no such request to cancel", 0});
    return;
  }
  if (!r->is_unfinished()) return;
  Ending ending;
  ending.reason = FinishReason::kCancelled;
  ending.code = Code::kCancelled;
  finish(s, *r, std::move(ending));
}

void run_request_timers(CoreState& s) {
  while (!s.backoff_timers.empty() && s.backoff_timers.begin()->first <= s.now) {
    Request* r = find_request(s, s.backoff_timers.begin()->second);
    enqueue(s, *r);
  }
  while (!s.request_timers.empty() && s.request_timers.begin()->first <= s.now) {
    const RequestId id = s.request_timers.begin()->second;
    s.request_timers.erase(s.request_timers.begin());
    Request* r = find_request(s, id);
    if (!r->is_unfinished()) {
      erase_request(s, id);
      continue;
    }
    if (!rule_holds(Rule::kDeadline)) {
      start_timer(s, *r, s.now + kHour);
      continue;
    }
    const char* where = r->phase == Phase::kRunning ? "while it was being answered"
                                                    : "before a worker could take it";
    fail(s, *r, Code::kTimeout,
         "the deadline of " + std::to_string((r->deadline - r->accepted) / kMillisecond) +
             " ms passed " + where);
  }
}

void note_who_was_heard(CoreState& s) {
  const Nanos time_to_ask = s.limits.record_ttl_when_full;
  if (s.now - s.heard_since >= time_to_ask) s.ledger.set_heard_before(s.now - time_to_ask);
}

std::optional<Nanos> next_note(const CoreState& s) {
  const Nanos noted = s.ledger.heard_before();
  if (s.evictable.empty() || s.evictable.rbegin()->first <= noted) return std::nullopt;
  const Nanos time_to_ask = s.limits.record_ttl_when_full;
  return std::max(s.heard_since, noted + kNoteEvery) + time_to_ask;
}

void index_eviction(CoreState& s, Request& r) {
  s.evictable.erase({r.kept_since, r.id});
  if (!r.is_unfinished() && r.watchers.empty()) s.evictable.emplace(r.kept_since, r.id);
}

bool evict_finished(CoreState& s) {
  if (s.evictable.empty() || s.evictable.begin()->first > s.ledger.heard_before()) return false;
  const RequestId id = s.evictable.begin()->second;
  s.request_timers.erase({find_request(s, id)->timer, id});
  erase_request(s, id);
  return true;
}

double completions_per_second(const CoreState& s) {
  if (s.completions.size() < 2) return 0.0;
  const auto span = static_cast<double>(std::max<Nanos>(s.now - s.completions.front(), 1));
  return static_cast<double>(s.completions.size()) / (span / static_cast<double>(kSecond));
}

std::uint32_t retry_hint_ms(const CoreState& s) {
  // The time in which an eighth of the queue drains: refused clients come back spread over it.
  const double rate = completions_per_second(s);
  const double ahead = std::max(1.0, num_queued(s) / 8.0);
  const double hint =
      rate > 0.0 ? ahead / rate * static_cast<double>(kSecond) : static_cast<double>(kSecond);
  const double bounded = std::clamp(hint, static_cast<double>(s.limits.retry_hint_min),
                                    static_cast<double>(s.limits.retry_hint_max));
  return static_cast<std::uint32_t>(bounded / static_cast<double>(kMillisecond));
}

Refused exhausted(const CoreState& s, std::string message) {
  return {{}, Code::kExhausted, std::move(message), retry_hint_ms(s)};
}

}  // namespace facet::core
