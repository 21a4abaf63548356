// What binds a worker's life to its supervisor, and what it does with signals.
#pragma once

#include <cstdint>

#include "common/base/result.h"

namespace facet {

// Asks the kernel for SIGKILL when the supervisor dies and checks that it has not died already.
// kClosed: it has. kIo: `lifeline_fd` is not the pipe that the supervisor hands over.
Status bind_life_to_supervisor(int lifeline_fd);

// True once the other end of the lifeline is closed. Never blocks.
bool is_supervisor_gone(int lifeline_fd);

// SIGINT is the supervisor's business (a terminal sends it to the whole group); SIGPIPE is none.
// SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGABRT write one line to standard error, on a stack of
// their own, and then end the process as they would have.
void install_signal_handlers(std::uint32_t worker);

}  // namespace facet
