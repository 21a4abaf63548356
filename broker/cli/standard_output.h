// Standard output for what a reader waits for: unbuffered, its failures told.
#pragma once

#include <string_view>

#include "common/base/result.h"

namespace facet {

// Writes all of it. kClosed: nobody reads any more (the pipe's reader went away; SIGPIPE is to be
// ignored). kCancelled: a stop signal came while the reader did not read. Otherwise why it could
// not be written.
Status print_now(std::string_view text);

}  // namespace facet
