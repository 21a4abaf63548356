// How fast a worker is: tokens a second of one running sequence, prompt tokens included. Not its
// tokens a second in all: those grow with the number of sequences it is given, so that a worker
// with little to do would look slow and be given less still.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "common/base/clock.h"

namespace facet::core {

class SpeedMeter {
 public:
  // It was idle and has work from now on.
  void start(Nanos now) { last_ = now; }

  // `tokens` were done since start() or the last add(), by `running` sequences.
  void add(Nanos now, std::uint32_t running, std::uint64_t tokens) {
    const double seconds = static_cast<double>(now - last_) / static_cast<double>(kSecond);
    const double kept = std::exp(-seconds / kMemorySeconds);
    last_ = now;
    tokens_ = tokens_ * kept + static_cast<double>(tokens);
    seconds_ = seconds_ * kept + seconds * std::max(running, 1u);
  }

  // 0 until there is enough to go by.
  double tokens_per_second() const { return seconds_ < kLeastSeconds ? 0.0 : tokens_ / seconds_; }

 private:
  static constexpr double kMemorySeconds = 10.0;  // a slower GPU shows within seconds
  static constexpr double kLeastSeconds = 0.1;    // some steps of one sequence
  double tokens_ = 0.0;
  double seconds_ = 0.0;  // of running sequences
  Nanos last_ = 0;
};

}  // namespace facet::core
