// Exit codes of `facet`. They are part of its interface: scripts depend on them.
#pragma once

#include "common/control/operator_packets.h"

namespace facet {

enum CliExit : int {
  kCliOk = 0,
  kCliFailed = 1,    // the request, or some of a batch, failed
  kCliUsage = 2,     // wrong arguments, or files that cannot be used as asked
  kCliNoDaemon = 3,  // no daemon could be reached or started
  kCliNotPermitted = kOperatorNotPermitted,  // 4: for root and the daemon's user only
  kCliInterrupted = 130,
};

}  // namespace facet
