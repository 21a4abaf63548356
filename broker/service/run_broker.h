// The life of the broker process: arguments, inherited descriptors, core, sockets, loop.
#pragma once

namespace facet {

// Arguments: --config FILE [--workers N]. Returns the process's exit code (common/control/fds.h).
int run_broker(int argc, char** argv);

}  // namespace facet
