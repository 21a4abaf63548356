// How a daemon ends: by a signal, drained for an operator, or because nothing can be served.
#include <algorithm>
#include <csignal>
#include <utility>

#include "broker/supervisor/supervisor_core.h"
#include "broker/supervisor/time_text.h"
#include "common/control/fds.h"

namespace facet {
namespace {

// After SIGKILL only a process stuck in the kernel is left; nothing may keep us from leaving.
constexpr Nanos kUnreapable = 5 * kSecond;
// A drain without a bound ends with the deadline of the last request; this is beyond all of them.
constexpr Nanos kNoBound = 25 * 3600 * kSecond;

}  // namespace

void SupervisorCore::on(const StopRequested&) {
  ++num_stop_requests_;
  if (num_stop_requests_ > 1) {
    note(false, "asked to stop again: ending everything now");
    was_cut_ = true;
    begin_stopping();
    for_each([this](Life& life) {
      if (life.is_alive()) end_child(life, SIGKILL);
    });
    return;
  }
  if (phase_ == Phase::kStopping) return;
  drain_until_ = std::min(phase_ == Phase::kDraining ? drain_until_ : now_ + rules_.drain,
                          now_ + rules_.drain);
  actions_.emplace_back(Announce{Milestone::kStopping, "draining"});
  if (phase_ == Phase::kDraining) return;
  if (was_broker_ready_) {
    note(false, "draining: " + std::to_string(num_unfinished_) + " requests, at most " +
                    seconds(rules_.drain));
  }
  enter_draining();
}

void SupervisorCore::enter_draining() {
  phase_ = Phase::kDraining;
  if (!was_broker_ready_) return begin_stopping();                  // nothing was accepted yet
  if (is_broker_ready()) tell_about(ControlKind::kDrain, broker_);  // else once it is
}

void SupervisorCore::on(const TimePassed&) {
  if (phase_ == Phase::kDraining && now_ >= drain_until_) {
    note(true,
         "drain time is over with " + std::to_string(num_unfinished_) + " requests unfinished");
    was_cut_ = true;  // or the broker would have said that it is done
    begin_stopping();
  }
}

void SupervisorCore::begin_drain(std::uint64_t client, const OperatorRequest& request) {
  if (phase_ == Phase::kStopping) {
    return tell_operator(client, "the daemon is stopping", true, kExitFailure);
  }
  // Every request has a deadline of its own: without a bound the drain ends with the last of them.
  const Nanos until = now_ + bound_of(request, kNoBound);
  const bool is_first = phase_ != Phase::kDraining;
  drain_until_ = is_first || (request.has_bound != 0 && !is_signalled())
                     ? until
                     : std::min(drain_until_, until);
  drainers_.push_back(client);
  note(false, "draining for an operator: " + std::to_string(num_unfinished_) + " requests");
  tell_operator(client, "draining: " + std::to_string(num_unfinished_) + " requests unfinished",
                false);
  if (is_first) enter_draining();
}

void SupervisorCore::cancel_drain(std::uint64_t client) {
  if (phase_ == Phase::kServing) {
    return tell_operator(client, "the daemon is not draining", true, kExitFailure);
  }
  if (phase_ == Phase::kStopping || is_signalled()) {
    return tell_operator(client, "the daemon was told to stop: that cannot be taken back", true,
                         kExitFailure);
  }
  phase_ = Phase::kServing;
  tell_about(ControlKind::kUndrain, broker_);
  note(false, "the drain is taken back");
  end_drainers("the drain was taken back", kExitFailure);
  tell_operator(client, "serving again", true, kExitOk);
}

void SupervisorCore::tell_drainers(const std::string& text) {
  for (const std::uint64_t client : drainers_) tell_operator(client, text, false);
}

void SupervisorCore::end_drainers(const std::string& text, int exit_code) {
  for (const std::uint64_t client : std::exchange(drainers_, {})) {
    tell_operator(client, text, true, exit_code);
  }
}

void SupervisorCore::begin_stopping() {
  if (phase_ == Phase::kStopping) return;
  phase_ = Phase::kStopping;
  leave_by_ = now_ + rules_.kill_grace + kUnreapable;
  for_each([this](Life& life) {
    if (life.state == State::kRunning) end_child(life, SIGTERM);
  });
}

void SupervisorCore::leave_when_done() {
  if (phase_ != Phase::kStopping) return;
  const bool is_done = !broker_.is_alive() && are_holders_gone();
  if (!is_done && now_ < leave_by_) return;
  if (!is_done) note(true, "some processes cannot be reaped; leaving them to the kernel");
  has_left_ = true;
  was_cut_ = was_cut_ || !is_done;
  end_drainers(was_cut_ ? "ended with " + std::to_string(num_unfinished_) + " requests unfinished"
                        : "drained: every accepted request was finished",
               was_cut_ ? kExitFailure : kExitOk);
  actions_.emplace_back(Leave{is_done ? exit_code_ : kExitFailure});
}

}  // namespace facet
