// A compute device. Everything that places memory or work takes a list of them.
#pragma once

#include <cstdint>

namespace facet {

struct Device {
  enum class Kind : std::uint8_t { kCpu, kCuda };
  Kind kind = Kind::kCpu;
  int index = 0;  // among the devices the process sees

  bool operator==(const Device&) const = default;
};

}  // namespace facet
