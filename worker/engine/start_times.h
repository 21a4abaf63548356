// What a worker's start took, part by part, for one line in its log.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "common/base/clock.h"

namespace facet {

class StartTimes {
 public:
  explicit StartTimes(Nanos begin) : begin_(begin), last_(begin) {}

  // What has passed since the mark before is this part's; a part may come again.
  void mark(const std::string& part) {
    const Nanos now = monotonic_now();
    const auto at = std::ranges::find(parts_, part, &Part::first);
    if (at == parts_.end())
      parts_.emplace_back(part, now - last_);
    else
      at->second += now - last_;
    last_ = now;
  }

  Nanos total() const { return last_ - begin_; }
  // In the order in which they came first.
  using Part = std::pair<std::string, Nanos>;
  const std::vector<Part>& parts() const { return parts_; }

 private:
  Nanos begin_;
  Nanos last_;
  std::vector<Part> parts_;
};

// Where nobody asks, `times` is null.
inline void mark(StartTimes* times, const char* part) {
  if (times != nullptr) times->mark(part);
}

}  // namespace facet
