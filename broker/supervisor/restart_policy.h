// Who is to blame for a death, and when the successor may start.
#pragma once

#include <cstdint>
#include <optional>

#include "common/base/clock.h"

namespace facet {

// How a process ended, as waitid() tells it.
struct ChildEnd {
  bool is_signalled = false;
  int code = 0;  // signal number, or exit code
};

// What a worker's handler of fatal signals said of the signal.
struct FatalSignal {
  int number = 0;
  int code = 0;                 // si_code
  bool is_from_itself = false;  // sent by the process itself, as abort() does
};

// Faults, aborts and bad exit codes are the process's own doing. SIGKILL, SIGTERM and the like
// come from outside (a person, the kernel short of memory), and so does an orderly end; a lost
// device is the device's. waitid() does not tell a real fault from `kill -SEGV`: what the process
// said of this very signal does (a fault has si_code > 0); unsaid, it counts as a fault.
bool is_own_fault(const ChildEnd& end, const std::optional<FatalSignal>& said = std::nullopt);

// For the log: "killed by SIGSEGV", "exited with 72 (bad configuration or model)".
const char* exit_code_meaning(int code);

struct BackOff {
  Nanos base = kSecond;
  Nanos longest = 60 * kSecond;

  // Before the successor of the n-th early death in a row: 0, base, 2 base, 4 base .. longest.
  Nanos delay(std::uint32_t early_deaths) const;
};

}  // namespace facet
