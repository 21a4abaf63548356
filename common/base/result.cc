#include "common/base/result.h"

#include <cerrno>
#include <cstring>

namespace facet {

std::string_view code_name(Code code) {
  switch (code) {
    case Code::kInternal: return "internal";
    case Code::kInvalidArgument: return "invalid_argument";
    case Code::kTooLarge: return "too_large";
    case Code::kNotFound: return "not_found";
    case Code::kExhausted: return "exhausted";
    case Code::kTimeout: return "timeout";
    case Code::kCancelled: return "cancelled";
    case Code::kClosed: return "closed";
    case Code::kStaleEpoch: return "stale_epoch";
    case Code::kCorrupt: return "corrupt";
    case Code::kIo: return "io";
    case Code::kQuarantined: return "quarantined";
    case Code::kUnsupported: return "unsupported";
  }
  return "unknown";
}

Error errno_error(std::string_view what, int error_number, const char* at_file, int at_line) {
  const Code code = error_number == ENOENT   ? Code::kNotFound
                    : error_number == ENOSPC ? Code::kExhausted
                    : error_number == ENOMEM ? Code::kExhausted
                    : error_number == EMFILE ? Code::kExhausted
                                             : Code::kIo;
  return Error(code, std::string(what) + ": " + std::strerror(error_number), at_file, at_line);
}

}  // namespace facet
