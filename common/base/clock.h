// Time as plain nanoseconds. CLOCK_MONOTONIC for durations, CLOCK_BOOTTIME for incarnations.
#pragma once

#include <cstdint>
#include <ctime>

namespace facet {

using Nanos = std::int64_t;  // a duration or a point on CLOCK_MONOTONIC, in nanoseconds

inline constexpr Nanos kMillisecond = 1'000'000;
inline constexpr Nanos kSecond = 1'000'000'000;

inline Nanos read_clock(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<Nanos>(now.tv_sec) * kSecond + now.tv_nsec;
}

inline Nanos monotonic_now() { return read_clock(CLOCK_MONOTONIC); }

// Names one life of a worker or broker: only grows, across restarts of everything but the host.
inline std::uint64_t new_incarnation() {
  return static_cast<std::uint64_t>(read_clock(CLOCK_BOOTTIME));
}

}  // namespace facet
