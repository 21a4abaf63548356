// Sizes as an operator writes them: "15GB" (10^9), "512MiB" (2^20), "1.5GiB", "4096".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace facet {

// Units: none or B, kB/KB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB (powers of 1024).
// A fraction is allowed if the result is whole bytes after rounding. kInvalidArgument otherwise.
Result<std::uint64_t> parse_byte_size(std::string_view text);

// "15GB 15GB" or "15GB,15GB": one size or more, separated by blanks or commas. Empty: no size.
Result<std::vector<std::uint64_t>> parse_byte_sizes(std::string_view text);

// The shortest exact spelling: 536870912 -> "512MiB", 15000000000 -> "15GB", 1001 -> "1001B".
std::string format_byte_size(std::uint64_t bytes);

}  // namespace facet
