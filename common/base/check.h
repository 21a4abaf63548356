// FACET_CHECK: a broken invariant of our own. Prints where and aborts, in every build.
// Never used on data from a client, a file or another process: those get a Result.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace facet {

[[noreturn]] inline void check_failed(const char* file, int line, const char* what,
                                      const char* why) {
  std::fprintf(stderr, "%s:%d: check failed: %s %s\n", file, line, what, why);
  std::abort();
}

}  // namespace facet

#define FACET_CHECK(condition)                                               \
  do {                                                                       \
    if (!(condition)) [[unlikely]]                                           \
      ::facet::check_failed(__FILE__, __LINE__, #condition, "");             \
  } while (false)

#define FACET_CHECK_MSG(condition, why)                                      \
  do {                                                                       \
    if (!(condition)) [[unlikely]]                                           \
      ::facet::check_failed(__FILE__, __LINE__, #condition, why);            \
  } while (false)
