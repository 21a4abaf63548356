#include "broker/supervisor/restart_policy.h"

#include <algorithm>
#include <csignal>

#include "common/control/fds.h"

namespace facet {

bool is_own_fault(const ChildEnd& end, const std::optional<FatalSignal>& said) {
  if (!end.is_signalled) return end.code != kExitOk && end.code != kExitDeviceLost;
  if (said && said->number == end.code) return said->code > 0 || said->is_from_itself;
  switch (end.code) {
    case SIGSEGV:
    case SIGBUS:
    case SIGILL:
    case SIGFPE:
    case SIGABRT:
    case SIGSYS:
    case SIGTRAP:
    case SIGXCPU:
    case SIGXFSZ:
      return true;
    default:
      return false;
  }
}

const char* exit_code_meaning(int code) {
  switch (code) {
    case kExitOk: return "orderly";
    case kExitUsage: return "bad invocation";
    case kExitEngine: return "engine failure";
    case kExitHostMemory: return "out of host memory";
    case kExitBadConfig: return "bad configuration or model";
    case kExitDeviceLost: return "device lost";
    default: return "failure";
  }
}

Nanos BackOff::delay(std::uint32_t early_deaths) const {
  if (early_deaths <= 1) return 0;
  Nanos delay = base;
  for (std::uint32_t i = 2; i < early_deaths && delay < longest; ++i) delay *= 2;
  return std::min(delay, longest);
}

}  // namespace facet
