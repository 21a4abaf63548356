// BrokerCore: the broker's whole logic as a step function. No sockets, no clock, no threads, no
// msgpack: (state, event, now) -> actions. It writes ring and ledger through their writers (plain
// memory), so when step() returns, what its actions tell a client is committed already.
// README.md beside this file states the rules.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "broker/core/actions.h"
#include "broker/core/core_limits.h"
#include "broker/core/core_status.h"
#include "broker/core/events.h"
#include "broker/core/seams.h"
#include "common/base/clock.h"
#include "common/shm/ledger.h"
#include "common/shm/ring.h"

namespace facet {

struct CoreState;

class BrokerCore {
 public:
  // `ring` and `ledger` must outlive the core; nothing else may write them.
  BrokerCore(const CoreLimits& limits, CoreSeams seams, RingWriter& ring, LedgerWriter& ledger);
  ~BrokerCore();
  BrokerCore(const BrokerCore&) = delete;
  BrokerCore& operator=(const BrokerCore&) = delete;

  // Once, before the first step: rebuilds everything from ledger and ring (empty ones are fine).
  // Precondition: of the processes that served a former broker every decoder has been reaped, and
  // every worker that was not is among `takeover.living`.
  std::vector<Action> recover(const Takeover& takeover, Nanos now);

  // `now` (CLOCK_MONOTONIC) never goes back. Actions are to be executed in order.
  std::vector<Action> step(Event event, Nanos now);

  // When to come with a TimerTick at the latest; a time that has passed means at once.
  std::optional<Nanos> next_deadline() const;

  std::uint64_t num_unfinished() const;  // accepted and not terminal
  // A drain is over: nothing unfinished, and who follows a request was told its end, or does not
  // take it (CoreLimits::drain_delivery, drain_return).
  bool is_drained(Nanos now) const;
  // Nothing unfinished, no upload, no slot held by anyone: only finished records may be left.
  bool is_idle() const;
  // free + leased + cached = all, for pages, slots, records and ledger bytes, at any moment; when
  // idle, all is back. kInternal naming the first discrepancy.
  Status check_conservation() const;
  CoreStatus status() const;

 private:
  std::unique_ptr<CoreState> state_;
};

}  // namespace facet
