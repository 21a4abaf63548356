// Tells a hung process from a busy one: its progress counter must move within the deadline of the
// phase that it says it is in. Times are those in which the watcher itself ran.
#pragma once

#include <cstdint>

#include "common/base/clock.h"
#include "common/control/worker_page.h"

namespace facet {

struct PhaseDeadlines {
  Nanos load = 600 * kSecond;
  Nanos warm_up = 180 * kSecond;
  Nanos idle = 5 * kSecond;
  Nanos step = 60 * kSecond;

  Nanos of(WorkerPhase phase) const {
    switch (phase) {
      case WorkerPhase::kStarting:
      case WorkerPhase::kLoad: return load;
      case WorkerPhase::kWarmUp: return warm_up;
      case WorkerPhase::kIdle: return idle;
      default: return step;
    }
  }
};

class ProgressWatch {
 public:
  void start(Nanos now) { *this = ProgressWatch(now); }

  void see(WorkerPhase phase, std::uint64_t progress, Nanos now) {
    if (phase == phase_ && progress == progress_) return;
    phase_ = phase;
    progress_ = progress;
    changed_ = now;
  }

  WorkerPhase phase() const { return phase_; }
  Nanos silent_for(Nanos now) const { return now - changed_; }
  bool is_overdue(const PhaseDeadlines& deadlines, Nanos now) const {
    return silent_for(now) > deadlines.of(phase_);
  }

  ProgressWatch() = default;

 private:
  explicit ProgressWatch(Nanos now) : changed_(now) {}

  WorkerPhase phase_ = WorkerPhase::kStarting;
  std::uint64_t progress_ = 0;
  Nanos changed_ = 0;
};

}  // namespace facet
