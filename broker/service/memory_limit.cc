#include "broker/service/memory_limit.h"

#include <sys/resource.h>

#include <algorithm>
#include <cerrno>

namespace facet {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kHasSanitizer = true;
#else
constexpr bool kHasSanitizer = false;
#endif

}  // namespace

Status limit_memory(std::uint64_t bytes) {
  if (kHasSanitizer) return {};
  rlimit limit{};
  if (getrlimit(RLIMIT_DATA, &limit) != 0) return errno_error("RLIMIT_DATA", errno);
  limit.rlim_max = std::min<rlim_t>(limit.rlim_max, bytes);
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_DATA, &limit) != 0) return errno_error("RLIMIT_DATA", errno);
  return {};
}

}  // namespace facet
