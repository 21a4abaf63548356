// The daemon's status JSON as a table for people.
#pragma once

#include <string>

#include "common/base/result.h"

namespace facet {

// What a field's absence means is "unknown": shown as "-". kCorrupt: not a JSON object.
Result<std::string> status_table(const std::string& status_json);

// "1.5 GiB", "12 B".
std::string human_bytes(double bytes);

}  // namespace facet
