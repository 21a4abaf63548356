// The life of an accepted request: phases and queues, its end, its record's end.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "broker/core/core_state.h"

namespace facet::core {

Request* find_request(CoreState& s, const RequestId& id);

// The one place that changes a phase: keeps queues, counts and timers true.
void set_phase(CoreState& s, Request& r, Phase phase);

// Puts an unfinished request into the queue where it belongs: waiting for pixels, or ready.
void enqueue(CoreState& s, Request& r);

// How a worker's word about the end travels into the record.
struct Ending {
  FinishReason reason = FinishReason::kError;
  Code code = Code::kInternal;
  std::string error;
  std::string tail;
  std::uint32_t prompt_tokens = 0;
  std::uint32_t image_tokens = 0;
  std::uint32_t cached_tokens = 0;
};

// Makes the request terminal, in the ledger first: tells its worker to stop, releases slots,
// wakes its cursors. An ending whose tail does not fit becomes an error that says so.
void finish(CoreState& s, Request& r, Ending ending);
void fail(CoreState& s, Request& r, Code code, std::string error);

// Registers a request whose record is in the ledger (admission, recovery).
Request& add_request(CoreState& s, Request r);
void start_timer(CoreState& s, Request& r, Nanos when);

void cancel_request(CoreState& s, ClientToken client, const RequestId& id);

// A record makes room in a full ledger when who was told its end has had time to ask again.
void note_who_was_heard(CoreState& s);
std::optional<Nanos> next_note(const CoreState& s);  // where no event comes by itself
// Whether it may be dropped then; to be said after every change of its phase or watchers.
void index_eviction(CoreState& s, Request& r);
// Drops the record whose clients have had the longest time, if one may go and is read by nobody.
bool evict_finished(CoreState& s);

// Deadlines, ends of records, ends of back-offs.
void run_request_timers(CoreState& s);

// Milliseconds after which a refused client should come back.
std::uint32_t retry_hint_ms(const CoreState& s);
// .. of a draining server: it ends, and its successor is wanted; or the drain is taken back.
inline constexpr std::uint32_t kDrainRetryMs = 1000;
// Something is full for now. The caller says which request it is.
Refused exhausted(const CoreState& s, std::string message);
double completions_per_second(const CoreState& s);

}  // namespace facet::core
