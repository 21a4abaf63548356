#include "broker/cli/operator_link.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "broker/cli/stop_signal.h"
#include "common/config/config.h"

namespace facet {
namespace {

constexpr int kPollMs = 1000;  // between two looks at Ctrl-C

std::string beside(const std::string& socket) {
  return (std::filesystem::path(socket).parent_path() / kOperatorSocketName).string();
}

Error not_permitted(const std::string& path) {
  struct stat status {};
  const std::string owner =
      ::stat(path.c_str(), &status) == 0 ? " (" + std::to_string(status.st_uid) + ")" : "";
  return Error(Code::kUnsupported,
               path + ": not permitted: only root and the daemon's user" + owner + " may do this");
}

Result<UniqueFd> connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return Error(Code::kInvalidArgument, path + ": too long for a socket's path");
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!fd) return errno_error("socket", errno);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    if (errno == EACCES || errno == EPERM) return not_permitted(path);
    return Error(Code::kNotFound, path + ": " + std::strerror(errno));
  }
  return fd;
}

}  // namespace

Result<OperatorLink> connect_operator(const DaemonOptions& options) {
  std::vector<std::string> paths;
  if (!options.config.empty()) {
    const Config config = FACET_TRY(load_config(options.config));
    paths.push_back(config.broker.runtime_dir + "/" + kOperatorSocketName);
  } else {
    const SocketChoice choice = FACET_TRY(choose_sockets(options));
    for (const std::string& path : choice.paths) paths.push_back(beside(path));
  }
  std::string tried;
  for (const std::string& path : paths) {
    auto fd = connect_to(path);
    if (fd) return OperatorLink{path, std::move(*fd)};
    if (fd.error().code != Code::kNotFound) return fd.error();
    tried += (tried.empty() ? "" : "; ") + fd.error().message;
  }
  return Error(Code::kNotFound, "no daemon is running (" + tried + ")");
}

Result<OperatorAnswer> ask_operator(const OperatorLink& link, const OperatorRequest& request,
                                    const std::function<void(const std::string&)>& progress) {
  // A daemon that turns us away answers first and closes then: its answer is read below.
  if (::send(link.fd.get(), &request, sizeof request, MSG_NOSIGNAL) < 0 && errno != EPIPE) {
    return errno_error(link.path, errno);
  }
  bool was_reset = false;
  while (true) {
    if (stop_level() != StopLevel::kNone) return Error(Code::kCancelled, "interrupted");
    pollfd readable{.fd = link.fd.get(), .events = POLLIN, .revents = 0};
    if (::poll(&readable, 1, kPollMs) <= 0) continue;
    OperatorReply reply;
    const ssize_t count = ::recv(link.fd.get(), &reply, sizeof reply, 0);
    // Turned away with our request unread: the reset comes before the answer.
    if (count < 0 && errno == ECONNRESET && !std::exchange(was_reset, true)) continue;
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return Error(Code::kClosed, "the daemon went away before it was done");
    if (count != sizeof reply || reply.magic != OperatorRequest::kMagic) {
      return Error(Code::kCorrupt, link.path + ": the daemon is of another version");
    }
    const std::string text(reply.text, ::strnlen(reply.text, sizeof reply.text));
    if (reply.is_last != 0) return OperatorAnswer{reply.exit_code, text};
    progress(text);
  }
}

}  // namespace facet
