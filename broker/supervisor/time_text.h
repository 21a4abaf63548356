// Times as people read them in log lines: "350 ms", "2.4 s".
#pragma once

#include <string>

#include "common/base/clock.h"

namespace facet {

inline std::string seconds(Nanos time) {
  if (time < kSecond) return std::to_string(time / kMillisecond) + " ms";
  return std::to_string(time / kSecond) + "." + std::to_string(time / (kSecond / 10) % 10) + " s";
}

}  // namespace facet
