// How many times longer a test waits for what must happen: integration/patience.py, for C++.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdlib>

namespace facet {

// So long a wait of a fast build is here.
inline std::chrono::milliseconds patient(std::chrono::milliseconds time) {
  const char* patience = std::getenv("FACET_TEST_PATIENCE");  // tests/CMakeLists.txt
  return time * std::max(1, patience == nullptr ? 1 : std::atoi(patience));
}

// For what wants an int, such as poll().
inline int patient_ms(int milliseconds) {
  return static_cast<int>(patient(std::chrono::milliseconds(milliseconds)).count());
}

}  // namespace facet
