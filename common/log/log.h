// How every process logs: one line an event, `time level process event key=value ...`.
#pragma once

#include <string_view>

#include "common/config/config.h"

namespace facet {

// Sets spdlog's default logger: to log.file (appended to, shared by all processes) or to standard
// error when that is empty or cannot be opened. Lines of kInfo and above are flushed at once.
void start_log(const LogConfig& config, std::string_view process);

// Of the running process; a new log.level.
void set_log_level(LogLevel level);

}  // namespace facet
