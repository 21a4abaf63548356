// facetd's life: arguments, configuration, what must outlive its children, then the supervisor.
#pragma once

namespace facet {

// Exit code of the process: ExitCode of common/control/fds.h.
int run_facetd(int argc, char** argv);

}  // namespace facet
