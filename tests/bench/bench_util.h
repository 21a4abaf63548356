// What the benches share: samples, quantiles, a listener of one's own, pages shared by processes.
#pragma once

#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "common/base/check.h"
#include "common/base/clock.h"
#include "tests/unix_listener.h"

namespace facet::bench {

// Sorts `samples`; share 0.5 is the median.
inline double quantile(std::vector<double>& samples, double share) {
  FACET_CHECK(!samples.empty());
  std::sort(samples.begin(), samples.end());
  const double at = share * static_cast<double>(samples.size() - 1);
  return samples[static_cast<std::size_t>(at + 0.5)];
}

// Zeroed memory that children share.
template <class T>
T* shared() {
  void* page =
      mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  FACET_CHECK(page != MAP_FAILED);
  return static_cast<T*>(page);
}

// A child that runs `body` and ends with its parent.
template <class Body>
pid_t start(Body body) {
  const pid_t pid = fork();
  FACET_CHECK(pid >= 0);
  if (pid != 0) return pid;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  body();
  _exit(0);
}

inline void pause_for(Nanos time) {
  const timespec span{.tv_sec = time / kSecond, .tv_nsec = time % kSecond};
  nanosleep(&span, nullptr);
}

}  // namespace facet::bench
