#include "broker/cli/progress.h"

namespace facet {
namespace {

constexpr Nanos kWindow = 15 * kSecond;
constexpr Nanos kTerminalPeriod = 100 * kMillisecond;
constexpr Nanos kLogPeriod = 5 * kSecond;

}  // namespace

void RateMeter::add(Nanos now, std::size_t done) {
  points_.emplace_back(now, done);
  while (points_.size() > 2 && now - points_.front().first > kWindow) points_.pop_front();
}

double RateMeter::per_second() const {
  if (points_.size() < 2 || points_.back().first <= points_.front().first) return 0.0;
  return static_cast<double>(points_.back().second - points_.front().second) *
         static_cast<double>(kSecond) /
         static_cast<double>(points_.back().first - points_.front().first);
}

std::string duration_text(double seconds) {
  const auto whole = static_cast<long long>(seconds + 0.5);
  char text[48];
  if (whole >= 3600) {
    std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", whole / 3600, whole / 60 % 60,
                  whole % 60);
  } else {
    std::snprintf(text, sizeof text, "%lld:%02lld", whole / 60, whole % 60);
  }
  return text;
}

std::string progress_text(const BatchCounts& counts, double per_second) {
  std::string text = std::to_string(counts.done()) + "/" + std::to_string(counts.total) + " done";
  if (counts.skipped + counts.skipped_failed > 0) {
    text += " (" + std::to_string(counts.skipped + counts.skipped_failed) + " earlier)";
  }
  if (counts.failed > 0) text += ", " + std::to_string(counts.failed) + " failed";
  char rate[64];
  std::snprintf(rate, sizeof rate, ", %.1f images/s", per_second);
  text += rate;
  if (per_second > 0.0 && counts.done() < counts.total) {
    text +=
        ", ETA " + duration_text(static_cast<double>(counts.total - counts.done()) / per_second);
  }
  return text;
}

void Progress::update(const BatchCounts& counts, Nanos now) {
  if (is_quiet_ || now - last_ < (is_terminal_ ? kTerminalPeriod : kLogPeriod)) return;
  last_ = now;
  meter_.add(now, counts.now_done());
  const std::string text = progress_text(counts, meter_.per_second());
  std::fprintf(out_, is_terminal_ ? "\r%s\x1b[K" : "%s\n", text.c_str());
  std::fflush(out_);
  is_shown_ = true;
}

void Progress::clear() {
  if (is_terminal_ && is_shown_) std::fputs("\r\x1b[K", out_);
  is_shown_ = false;
}

void Progress::message(const std::string& text) {
  clear();
  std::fprintf(out_, "%s\n", text.c_str());
  std::fflush(out_);
}

}  // namespace facet
