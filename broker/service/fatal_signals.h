// Tells a broker that dies by its own fault from one that is killed: only then is the record in
// hand to blame.
#pragma once

#include <atomic>
#include <cstdint>

namespace facet {

// SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGABRT end the process as ever. When the main thread raised
// them itself, or the supervisor did because it hangs, `handling` is marked before
// (LedgerWriter::handling_word(), mapped for the rest of the process's life). A signal from anybody
// else, and SIGKILL, leave no mark.
void blame_record_in_hand(std::atomic<std::uint64_t>& handling);

}  // namespace facet
