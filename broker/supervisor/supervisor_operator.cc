// What an operator may ask of the supervisor's core: restarts, a new configuration (and, in
// supervisor_stop.cc, a drain).
#include <algorithm>
#include <csignal>
#include <numeric>
#include <utility>

#include "broker/supervisor/supervisor_core.h"
#include "common/control/fds.h"

namespace facet {
namespace {

// What a broker still has to say to its clients leaves within 2 s.
constexpr Nanos kRetireTime = 5 * kSecond;

}  // namespace
Nanos SupervisorCore::bound_of(const OperatorRequest& request, Nanos fallback) {
  if (request.has_bound == 0) return fallback;
  constexpr std::uint64_t kDayMs = 24 * 3600 * 1000;  // beyond it, as good as none
  return static_cast<Nanos>(std::min(request.bound_ms, kDayMs)) * kMillisecond;
}

void SupervisorCore::on(const OperatorSaid& event) {
  switch (event.request.kind) {
    case OperatorKind::kRestartRolling:
    case OperatorKind::kRestartWorker:
      return begin_roll(event.client, event.request);
    case OperatorKind::kDrain:
      return begin_drain(event.client, event.request);
    case OperatorKind::kCancelDrain:
      return cancel_drain(event.client);
    case OperatorKind::kReload:
      break;  // the shell's, which tells by ConfigChanged what came of it
  }
  tell_operator(event.client, "this daemon does not know the command", true, kExitUsage);
}

std::string SupervisorCore::why_no_restart() const {
  if (phase_ != Phase::kServing) return "the daemon is draining: nothing is started again";
  if (roll_) return "a restart is under way (" + roll_->describe() + ")";
  return "";
}

void SupervisorCore::begin_roll(std::uint64_t client, const OperatorRequest& request) {
  if (const std::string why = why_no_restart(); !why.empty()) {
    return tell_operator(client, why, true, kExitFailure);
  }
  const bool is_whole = request.kind == OperatorKind::kRestartRolling;
  if (!is_whole && request.worker >= workers_.size()) {
    return tell_operator(client,
                         "there is no worker " + std::to_string(request.worker) +
                             ": they are numbered 0 to " + std::to_string(workers_.size() - 1),
                         true, kExitUsage);
  }
  RollingRestart::Options options;
  if (is_whole) {
    options.workers.resize(workers_.size());
    std::iota(options.workers.begin(), options.workers.end(), 0u);
  } else {
    options.workers = {request.worker};
  }
  options.last_incarnation = roll_floor_ = last_incarnation_;
  options.bound = bound_of(request, rules_.drain);
  options.patience = rules_.deadlines.load;
  roll_.emplace(std::move(options), now_);
  roll_client_ = client;
  roll_is_whole_ = is_whole;
  note(false, is_whole ? "rolling restart begins"
                       : "restart of worker " + std::to_string(request.worker) + " begins");
}

void SupervisorCore::advance_roll() {
  while (roll_) {
    if (phase_ != Phase::kServing) {
      return end_roll(kExitFailure, "the restart is given up: the daemon is draining");
    }
    const RollOrder order = roll_->next(workers_seen(), now_);
    if (!order.text.empty() && order.what != RollOrder::What::kGiveUp) {
      note(false, "restart: " + order.text);
      tell_operator(roll_client_, order.text, false);
    }
    switch (order.what) {
      case RollOrder::What::kWait:
        return;
      case RollOrder::What::kGoOn:
        break;
      case RollOrder::What::kDrain:
        retire(workers_[order.worker]);
        break;
      case RollOrder::What::kEnd:
        start_again(workers_[order.worker]);
        break;
      case RollOrder::What::kGiveUp:
        return give_up_roll(order.text);
      case RollOrder::What::kDone:
        if (roll_is_whole_ && !is_broker_replaced()) return;
        return end_roll(kExitOk, roll_is_whole_ ? "every worker, the broker and the decoder are new"
                                                : "the worker is new");
    }
  }
}

// Asks for its end at the first call. The decoder goes with it and is started again after it.
bool SupervisorCore::is_broker_replaced() {
  if (broker_.id.incarnation > roll_floor_) {
    return is_broker_ready() && decoder_.id.incarnation > roll_floor_;
  }
  if (is_broker_ready()) {
    tell_operator(roll_client_, "broker and decoder are replaced", false);
    tell_about(ControlKind::kRetire, broker_);
    broker_.is_ended_by_us = true;
    broker_.state = State::kEnding;
    broker_.kill_at = now_ + kRetireTime;
  }
  return false;
}

// However it ends before its end: what came up with the new configuration did so for this restart.
void SupervisorCore::end_roll(int exit_code, const std::string& text) {
  if (roll_is_whole_ && exit_code != kExitOk) actions_.emplace_back(RestoreConfig{});
  note(exit_code != kExitOk, "restart: " + text);
  tell_operator(roll_client_, text, true, exit_code);
  roll_.reset();
  for (Life& worker : workers_) worker.is_retiring = false;
}

void SupervisorCore::give_up_roll(const std::string& why) {
  end_roll(kExitFailure, why + "; the restart is given up, the other workers run on");
}

// The broker gives it nothing more and tells it to end once it holds nothing.
void SupervisorCore::retire(Life& life) {
  life.is_retiring = true;
  tell_about(ControlKind::kDrainWorker, life);
}

void SupervisorCore::start_again(Life& life) {
  if (life.state == State::kRunning) return end_child(life, SIGTERM);
  if (life.state != State::kWaiting && life.state != State::kDisabled) return;
  life.state = State::kWaiting;
  life.start_at = now_;
  life.early_deaths = life.failed_starts = 0;
}

std::vector<WorkerSeen> SupervisorCore::workers_seen() const {
  std::vector<WorkerSeen> seen;
  seen.reserve(workers_.size());
  for (const Life& life : workers_) {
    const bool is_running = life.state == State::kRunning;
    seen.push_back({life.id.incarnation, is_running, is_running && life.is_ready,
                    life.state == State::kDisabled, life.failed_starts});
  }
  return seen;
}

void SupervisorCore::tell_operator(std::uint64_t client, std::string text, bool is_last,
                                   int exit_code) {
  actions_.emplace_back(TellOperator{client, std::move(text), is_last, exit_code});
}

void SupervisorCore::on(const ConfigChanged& event) {
  const std::uint32_t num_workers = rules_.num_workers;
  rules_ = event.rules;
  rules_.num_workers = num_workers;
  generation_ = event.generation;
  tell_about(ControlKind::kConfig, broker_, generation_);
  if (event.has_new_decoder && decoder_.state == State::kRunning) end_child(decoder_, SIGTERM);
}

void SupervisorCore::tell_again() {
  tell_about(ControlKind::kConfig, broker_, generation_);
  if (!roll_) return;
  for (const Life& worker : workers_) {
    if (worker.is_retiring && worker.state == State::kRunning) {
      tell_about(ControlKind::kDrainWorker, worker);
    }
  }
}

}  // namespace facet
