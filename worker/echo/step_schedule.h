// When the steps of a busy engine are due: by a schedule, not by a pause after each. A pause would
// add what the host takes to wake us up to every step, so that a step of 5 ms took 5.7 on a busy
// host and one of 15 ms 15.7, and workers of unequal speed came closer to each other.
#pragma once

#include <algorithm>

#include "common/base/clock.h"

namespace facet {

class StepSchedule {
 public:
  explicit StepSchedule(Nanos step_time) : step_time_(step_time) {}

  // The end of the step that begins now. In the past: the engine is behind and is to catch up.
  Nanos next(Nanos now) {
    due_ = (is_busy_ ? std::max(due_, now - kMostBehind) : now) + step_time_;
    is_busy_ = true;
    return due_;
  }

  // There is nothing more to do: the next step has no predecessor.
  void rest() { is_busy_ = false; }

 private:
  // What a host with work for several times its cores keeps from a process. One that was stopped
  // for longer does not make up for it.
  static constexpr Nanos kMostBehind = kSecond / 4;

  const Nanos step_time_;
  Nanos due_ = 0;
  bool is_busy_ = false;
};

}  // namespace facet
