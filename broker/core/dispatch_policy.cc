#include "broker/core/dispatch_policy.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace facet::core {
namespace {

double mean_speed(std::span<const WorkerLoad> loads) {
  double sum = 0.0;
  int measured = 0;
  for (const WorkerLoad& load : loads) {
    if (load.speed <= 0.0) continue;
    sum += load.speed;
    ++measured;
  }
  return measured == 0 ? 1.0 : sum / measured;
}

double speed_of(const WorkerLoad& load, double mean) {
  return load.speed > 0.0 ? load.speed : mean;
}

double turn_of(const DispatchTurns& turns, std::uint32_t worker) {
  return worker < turns.due.size() ? std::max(turns.due[worker], turns.time) : turns.time;
}

// The first worker with the smallest cost(index).
template <class Cost>
std::optional<std::uint32_t> cheapest(std::span<const WorkerLoad> loads, Cost cost) {
  std::optional<std::uint32_t> best;
  for (std::uint32_t i = 0; i < loads.size(); ++i) {
    if (loads[i].can_take && (!best || cost(i) < cost(*best))) best = i;
  }
  return best;
}

}  // namespace

std::optional<std::uint32_t> pick_worker(DispatchPolicy policy, std::span<const WorkerLoad> loads,
                                         std::uint64_t tokens, const DispatchTurns& turns) {
  const double mean = mean_speed(loads);
  const auto count = static_cast<std::uint32_t>(loads.size());
  switch (policy) {
    case DispatchPolicy::kLeastLoaded:
      break;
    case DispatchPolicy::kRoundRobin:
      return cheapest(loads,
                      [&](std::uint32_t i) { return (i + count - turns.next % count) % count; });
    case DispatchPolicy::kLeastConnections:
      return cheapest(
          loads, [&](std::uint32_t i) { return std::pair(loads[i].outstanding, loads[i].tokens); });
    case DispatchPolicy::kWeighted:  // among equal turns the fastest
      return cheapest(loads, [&](std::uint32_t i) {
        return std::pair(turn_of(turns, i), -speed_of(loads[i], mean));
      });
    case DispatchPolicy::kPredictedTime:
      return cheapest(loads, [&](std::uint32_t i) {
        return static_cast<double>(loads[i].tokens + tokens) / speed_of(loads[i], mean);
      });
  }
  return cheapest(loads, [&](std::uint32_t i) {
    return std::tuple(!loads[i].has_lane, loads[i].tokens, loads[i].outstanding);
  });
}

void take_turn(DispatchTurns& turns, std::span<const WorkerLoad> loads, std::uint32_t picked,
               std::uint64_t tokens) {
  turns.next = picked + 1;
  turns.due.resize(loads.size());
  turns.time = turn_of(turns, picked);
  // In tokens of a worker of mean speed: the scale stays when the first speeds are measured.
  const double mean = mean_speed(loads);
  turns.due[picked] = turns.time + static_cast<double>(std::max<std::uint64_t>(tokens, 1)) * mean /
                                       speed_of(loads[picked], mean);
}

}  // namespace facet::core
