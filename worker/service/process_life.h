// What binds a worker's life to its supervisor, and what it does with signals.
#pragma once

#include <cstdint>

#include "common/base/result.h"
#include "common/control/worker_page.h"

namespace facet {

// Asks the kernel for SIGKILL when the supervisor dies and checks that it has not died already.
// kClosed: it has. kIo: `lifeline_fd` is not the pipe that the supervisor hands over.
Status bind_life_to_supervisor(int lifeline_fd);

// True once the other end of the lifeline is closed. Never blocks.
bool is_supervisor_gone(int lifeline_fd);

// SIGINT is the supervisor's business (a terminal sends it to the whole group); SIGPIPE is none.
// SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGABRT leave last words in `page`, ring `last_words_fd`
// (an eventfd), write one line to standard error and then end the process as they would have.
// On a stack of their own in this thread. `page` stays mapped for the rest of the process's life.
void install_signal_handlers(std::uint32_t worker, WorkerPage& page, int last_words_fd);

}  // namespace facet
