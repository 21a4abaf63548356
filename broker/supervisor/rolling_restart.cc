#include "broker/supervisor/rolling_restart.h"

#include <utility>

#include "broker/supervisor/time_text.h"

namespace facet {
namespace {

// A successor that dies so often by its own fault will not come up; the last two tries lie
// behind the back-off.
constexpr std::uint32_t kMostFailedStarts = 3;

std::string name(std::uint32_t worker) {
  return "worker " + std::to_string(worker);
}

}  // namespace

void RollingRestart::enter(Stage stage, Nanos now) {
  stage_ = stage;
  since_ = now;
  has_told_ = false;
}

RollOrder RollingRestart::order(RollOrder::What what, std::string text) const {
  return {what, is_over() ? 0 : options_.workers[turn_], std::move(text)};
}

RollOrder RollingRestart::next(const std::vector<WorkerSeen>& workers, Nanos now) {
  if (is_over()) return order(RollOrder::What::kDone);
  const std::uint32_t index = options_.workers[turn_];
  const WorkerSeen& worker = workers[index];
  switch (stage_) {
    case Stage::kWaitingForOthers:
      return begin(workers, now);
    case Stage::kDraining: {
      const bool is_gone = !worker.is_running || worker.incarnation > options_.last_incarnation;
      if (is_gone) {
        enter(Stage::kStarting, now);
        return follow_start(worker, now);
      }
      if (now - since_ < options_.bound) return order(RollOrder::What::kWait);
      enter(Stage::kStarting, now);
      return order(RollOrder::What::kEnd, name(index) + " is not done after " +
                                              seconds(options_.bound) +
                                              ": what it holds goes on elsewhere");
    }
    case Stage::kStarting:
      break;
  }
  return follow_start(worker, now);
}

RollOrder RollingRestart::begin(const std::vector<WorkerSeen>& workers, Nanos now) {
  const std::uint32_t index = options_.workers[turn_];
  const WorkerSeen& worker = workers[index];
  for (std::uint32_t i = 0; i < workers.size(); ++i) {
    if (i == index || workers[i].is_ready || workers[i].is_disabled) continue;
    if (now - since_ > options_.patience) {
      return order(RollOrder::What::kGiveUp, name(i) + " is not ready after " +
                                                 seconds(options_.patience) + ": " + name(index) +
                                                 " is left as it is");
    }
    if (std::exchange(has_told_, true)) return order(RollOrder::What::kWait);
    return order(RollOrder::What::kWait, name(index) + " waits until " + name(i) + " is ready");
  }
  if (worker.incarnation > options_.last_incarnation) {
    enter(Stage::kStarting, now);
    return follow_start(worker, now);
  }
  if (worker.is_ready) {
    enter(Stage::kDraining, now);
    return order(RollOrder::What::kDrain, name(index) + " drains");
  }
  enter(Stage::kStarting, now);
  return order(RollOrder::What::kEnd, name(index) + " is not serving: it is started again");
}

RollOrder RollingRestart::follow_start(const WorkerSeen& worker, Nanos now) {
  const std::uint32_t index = options_.workers[turn_];
  const bool is_new = worker.incarnation > options_.last_incarnation;
  if (is_new && worker.is_ready) {
    RollOrder ready = order(RollOrder::What::kGoOn,
                            name(index) + " is ready again after " + seconds(now - since_));
    ++turn_;
    enter(Stage::kWaitingForOthers, now);
    return ready;
  }
  if (worker.is_disabled || (is_new && worker.failed_starts >= kMostFailedStarts)) {
    return order(RollOrder::What::kGiveUp, name(index) + " does not come up again");
  }
  if (now - since_ > options_.patience) {
    return order(RollOrder::What::kGiveUp,
                 name(index) + " is not ready after " + seconds(options_.patience));
  }
  return order(RollOrder::What::kWait);
}

Nanos RollingRestart::next_deadline() const {
  return since_ + (stage_ == Stage::kDraining ? options_.bound : options_.patience);
}

std::string RollingRestart::describe() const {
  if (is_over()) return "the workers are done";
  const char* what = stage_ == Stage::kDraining   ? " drains"
                     : stage_ == Stage::kStarting ? " starts"
                                                  : " is next";
  return name(options_.workers[turn_]) + what;
}

}  // namespace facet
