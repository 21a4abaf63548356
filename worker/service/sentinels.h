// Makes this process's death seen early. The memory of a killed process is freed before its
// descriptors are closed, which takes 100 ms and more for each GiB; but only the last of its
// threads frees it. Two sleeping threads with descriptor tables of their own hold one pipe each:
// whichever of them is not the last closes its pipe at once.
#pragma once

#include <span>

#include "common/base/result.h"

namespace facet {

// Starts a sentinel for each of `pipe_fds` and closes these in this thread's table. Descriptors
// opened earlier are not kept open by the sentinels. kIo: a descriptor is missing.
// kUnsupported: the kernel cannot (close_range before 5.9); death is then seen when all is freed.
Status start_sentinels(std::span<const int> pipe_fds);

}  // namespace facet
