#include "broker/cli/standard_output.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>

#include "broker/cli/stop_signal.h"

namespace facet {

Status print_now(std::string_view text) {
  constexpr int kLookMs = 200;  // for a stop signal, while the reader of a full pipe sleeps
  while (!text.empty()) {
    const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<std::size_t>(written));
      continue;
    }
    if (errno == EPIPE) return Error(Code::kClosed, "nobody reads the answer any more");
    if (errno != EINTR && errno != EAGAIN) return errno_error("cannot write the answer", errno);
    if (stop_level() != StopLevel::kNone) return Error(Code::kCancelled, "interrupted");
    pollfd item{STDOUT_FILENO, POLLOUT, 0};
    ::poll(&item, 1, kLookMs);
  }
  return {};
}

}  // namespace facet
