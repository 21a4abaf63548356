#include "broker/core/broker_core.h"

#include <algorithm>
#include <utility>

#include "broker/core/admission.h"
#include "broker/core/core_state.h"
#include "broker/core/cursors.h"
#include "broker/core/dispatch.h"
#include "broker/core/images.h"
#include "broker/core/recovery.h"
#include "broker/core/requests.h"
#include "broker/core/status.h"
#include "broker/core/takeover.h"
#include "broker/core/uploads.h"
#include "broker/core/worker_drain.h"
#include "broker/core/workers.h"
#include "common/base/check.h"

namespace facet {
namespace {

// In that time nobody could be heard: it counts against no sender of images, no decoder and no
// worker. Deadlines of requests are what their clients were promised, and stay.
void forgive_pause(CoreState& s, Nanos length) {
  s.upload_timers.clear();
  for (auto& [id, upload] : s.uploads) {
    upload.expires += length;
    s.upload_timers.emplace(upload.expires, id);
  }
  for (auto& [number, job] : s.decode_jobs) job.overdue += length;
  if (s.hello_deadline != 0) s.hello_deadline += length;
  s.heard_since = s.now;
}

struct Handle {
  CoreState& s;

  void operator()(ClientPut& e) { core::handle_put(s, e); }
  void operator()(ClientGenerate& e) { core::handle_generate(s, std::move(e)); }
  void operator()(ClientCancel& e) {
    core::drop_upload(s, e.id);
    core::cancel_request(s, e.client, e.id);
  }
  void operator()(ClientBlocked& e) { core::client_blocked(s, e.client, e.unsent); }
  void operator()(ClientWritable& e) { core::client_writable(s, e.client); }
  void operator()(ClientGone& e) { core::client_gone(s, e.client); }
  void operator()(WorkerHello& e) { core::worker_hello(s, e); }
  void operator()(WorkerStep& e) { core::worker_step(s, e); }
  void operator()(WorkerUnreachable& e) { core::worker_unreachable(s, e); }
  void operator()(WorkerStarted& e) { core::worker_started(s, e); }
  void operator()(WorkerDead& e) { core::worker_dead(s, e); }
  void operator()(WorkerReaped& e) { core::worker_reaped(s, e); }
  void operator()(WorkerDisabled& e) { core::worker_disabled(s, e); }
  void operator()(WorkerDrain& e) { core::drain_worker(s, e); }
  void operator()(DecoderUp&) { core::decoder_up(s); }
  void operator()(DecoderReaped&) { core::decoder_reaped(s); }
  void operator()(DecoderReply& e) { core::handle_decode_reply(s, e.reply); }
  void operator()(DrainStarted&) {
    s.draining = true;
    s.draining_since = s.now;
  }
  void operator()(LimitsChanged& e) {
    e.limits.num_workers = s.limits.num_workers;
    s.limits = e.limits;
    s.seams = std::move(e.seams);
  }
  void operator()(DrainEnded&) { s.draining = false; }
  void operator()(Paused& e) { forgive_pause(s, e.length); }
  void operator()(TimerTick&) {}
};

// What follows from any event: time, pixels, jobs, dispatches, messages.
std::vector<Action> settle(CoreState& s) {
  core::note_who_was_heard(s);
  core::run_request_timers(s);
  core::run_upload_timers(s);
  core::run_hello_timer(s);
  core::run_decode_timer(s);
  core::dispatch_ready(s);
  core::reserve_pixels(s);
  core::pump_decoder(s);
  core::end_drained_workers(s);
  core::pump_clients(s);
  return std::exchange(s.out, {});
}

}  // namespace

BrokerCore::BrokerCore(const CoreLimits& limits, CoreSeams seams, RingWriter& ring,
                       LedgerWriter& ledger)
    : state_(std::make_unique<CoreState>(limits, std::move(seams), ring, ledger)) {}

BrokerCore::~BrokerCore() = default;

std::vector<Action> BrokerCore::recover(const Takeover& takeover, Nanos now) {
  state_->now = now;
  core::recover(*state_, takeover);
  return settle(*state_);
}

std::vector<Action> BrokerCore::step(Event event, Nanos now) {
  CoreState& s = *state_;
  FACET_CHECK(now >= s.now);
  s.now = now;
  ++s.counters.events;
  std::visit(Handle{s}, event);
  return settle(s);
}

std::optional<Nanos> BrokerCore::next_deadline() const {
  const CoreState& s = *state_;
  std::optional<Nanos> next = core::next_client_deadline(s);
  for (const Timers* timers : {&s.request_timers, &s.backoff_timers, &s.upload_timers}) {
    if (timers->empty()) continue;
    const Nanos first = timers->begin()->first;
    next = next ? std::min(*next, first) : first;
  }
  const auto consider = [&next](Nanos when) { next = next ? std::min(*next, when) : when; };
  if (const auto note = core::next_note(s)) consider(*note);
  if (s.hello_deadline != 0) consider(s.hello_deadline);
  if (!s.decode_jobs.empty() && !s.decoder_condemned) {
    consider(s.decode_jobs.begin()->second.overdue);
  }
  return next;
}

std::uint64_t BrokerCore::num_unfinished() const {
  return state_->num_unfinished;
}
bool BrokerCore::is_drained(Nanos now) const {
  return core::is_drained(*state_, now);
}
bool BrokerCore::is_idle() const {
  return core::is_idle(*state_);
}
Status BrokerCore::check_conservation() const {
  return core::check_conservation(*state_);
}
CoreStatus BrokerCore::status() const {
  return core::make_status(*state_);
}

}  // namespace facet
