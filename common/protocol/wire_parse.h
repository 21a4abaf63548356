// Bounded parsing of msgpack: size, depth, number of values, completeness.
#pragma once

#include <msgpack.hpp>
#include <string_view>

#include "common/base/result.h"

namespace facet::wire {

struct ParseLimits {
  std::size_t bytes = 0;
  std::size_t items = 0;
};

// A parsed map; its strings point into the bytes it was parsed from.
Result<msgpack::object_handle> parse(std::string_view bytes, const ParseLimits& limits);

}  // namespace facet::wire
