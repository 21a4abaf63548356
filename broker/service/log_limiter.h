// Keeps one kind of log line from flooding: a burst, then so many a second, and a count of what
// was left out.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/base/clock.h"

namespace facet {

class LogLimiter {
 public:
  LogLimiter(std::uint32_t burst, Nanos interval)
      : burst_(burst), interval_(interval), tokens_(burst) {}

  // True when a line may be written now; `skipped` = lines left out since the last one.
  bool allow(Nanos now, std::uint64_t& skipped) {
    const Nanos earned = (now - refilled_) / interval_;
    if (earned > 0) {
      tokens_ = static_cast<std::uint32_t>(std::min<Nanos>(burst_, tokens_ + earned));
      refilled_ = now;
    }
    if (tokens_ == 0) {
      ++skipped_;
      return false;
    }
    --tokens_;
    skipped = skipped_;
    skipped_ = 0;
    return true;
  }

 private:
  const std::uint32_t burst_;
  const Nanos interval_;  // one more line each
  std::uint32_t tokens_;
  Nanos refilled_ = 0;
  std::uint64_t skipped_ = 0;
};

}  // namespace facet
