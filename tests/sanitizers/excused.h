// Parts of tests that cannot hold in a build with sanitizers: by name, from excused.txt.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>

namespace facet {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kHasSanitizer = true;
#else
inline constexpr bool kHasSanitizer = false;
#endif

// False in builds without a sanitizer. Says the reason; a name that is not listed ends the test.
inline bool is_excused(std::string_view name) {
  if (!kHasSanitizer) return false;
  std::ifstream list(FACET_SOURCE_DIR "/tests/sanitizers/excused.txt");
  for (std::string line; std::getline(list, line);) {
    if (!line.starts_with(name) || line.find(' ') != name.size()) continue;
    std::printf("excused under a sanitizer: %s\n", line.c_str());
    return true;
  }
  std::fprintf(stderr, "not in excused.txt: %.*s\n", static_cast<int>(name.size()), name.data());
  std::abort();
}

}  // namespace facet
