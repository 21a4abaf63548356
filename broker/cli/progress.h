// A batch's progress on standard error: one line rewritten on a terminal, else a line now and then.
#pragma once

#include <cstdio>
#include <deque>
#include <string>

#include "common/base/clock.h"

namespace facet {

struct BatchCounts {
  std::size_t total = 0;
  std::size_t skipped = 0;         // answered by an earlier run
  std::size_t skipped_failed = 0;  // failed in an earlier run
  std::size_t answered = 0;
  std::size_t failed = 0;
  std::size_t in_flight = 0;
  std::uint64_t tokens = 0;
  std::size_t done() const { return skipped + skipped_failed + answered + failed; }
  std::size_t now_done() const { return answered + failed; }
};

// Answers per second over the last seconds, and what that means for the rest.
class RateMeter {
 public:
  void add(Nanos now, std::size_t done);
  double per_second() const;

 private:
  std::deque<std::pair<Nanos, std::size_t>> points_;  // at most kWindow apart
};

std::string progress_text(const BatchCounts& counts, double per_second);
std::string duration_text(double seconds);  // "1:02:03", "4:05"

class Progress {
 public:
  Progress(std::FILE* out, bool is_terminal, bool is_quiet)
      : out_(out), is_terminal_(is_terminal), is_quiet_(is_quiet) {}

  void update(const BatchCounts& counts, Nanos now);
  void message(const std::string& text);  // a line of its own
  void clear();                           // before other output

 private:
  std::FILE* out_;
  const bool is_terminal_;
  const bool is_quiet_;
  bool is_shown_ = false;
  Nanos last_ = 0;
  RateMeter meter_;
};

}  // namespace facet
