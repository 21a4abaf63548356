// Who is to blame for a death, and when the successor may start.
#pragma once

#include <cstdint>

#include "common/base/clock.h"

namespace facet {

// How a process ended, as waitid() tells it.
struct ChildEnd {
  bool is_signalled = false;
  int code = 0;  // signal number, or exit code
};

// Faults, aborts and bad exit codes are the process's own doing. SIGKILL, SIGTERM and the like
// come from outside (a person, the kernel short of memory), and so does an orderly end; a lost
// device is the device's. waitid() does not tell a real fault from `kill -SEGV`: that counts as
// a fault too.
bool is_own_fault(const ChildEnd& end);

// For the log: "killed by SIGSEGV", "exited with 72 (bad configuration or model)".
const char* exit_code_meaning(int code);

struct BackOff {
  Nanos base = kSecond;
  Nanos longest = 60 * kSecond;

  // Before the successor of the n-th early death in a row: 0, base, 2 base, 4 base .. longest.
  Nanos delay(std::uint32_t early_deaths) const;
};

}  // namespace facet
