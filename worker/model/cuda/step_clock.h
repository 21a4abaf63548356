// How long a GPU rests between the kernels of one step and those of the next, by events on its
// stream.
#pragma once

#include <cstdint>

#include "common/base/clock.h"
#include "worker/model/cuda/pinned.h"

namespace facet {

class StepClock {
 public:
  // Around a step's kernels. `follows`: nothing but copies is between it and the step before, which
  // was on the stream already.
  void begin(bool follows, cudaStream_t stream) {
    Mark& mark = marks_[num_begun_++ % kMarks];
    mark.follows = follows;
    mark.begin.record(stream);
  }
  void end(cudaStream_t stream) { marks_[(num_begun_ - 1) % kMarks].end.record(stream); }

  // The oldest step that was not collected yet has ended.
  void collect() {
    const Mark& mark = marks_[num_collected_ % kMarks];
    if (mark.follows) {
      constexpr double kShare = 1.0 / 32;  // of the newest gap in the mean
      const double gap = mark.begin.nanoseconds_since(marks_[(num_collected_ - 1) % kMarks].end);
      mean_ += (gap - mean_) * (mean_ == 0.0 ? 1.0 : kShare);
    }
    ++num_collected_;
  }

  Nanos mean_gap() const { return static_cast<Nanos>(mean_); }

 private:
  static constexpr std::uint64_t kMarks = 4;  // the step before two in flight, and one to spare
  struct Mark {
    TimedEvent begin, end;
    bool follows = false;
  };
  Mark marks_[kMarks];
  std::uint64_t num_begun_ = 0, num_collected_ = 0;
  double mean_ = 0.0;  // nanoseconds
};

}  // namespace facet
