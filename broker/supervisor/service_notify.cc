#include "broker/supervisor/service_notify.h"

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace facet {

ServiceNotify::ServiceNotify() {
  if (const char* path = std::getenv("NOTIFY_SOCKET"); path != nullptr) path_ = path;
  const char* limit = std::getenv("WATCHDOG_USEC");
  const char* pid = std::getenv("WATCHDOG_PID");
  const bool is_ours = pid == nullptr || std::strtoll(pid, nullptr, 10) == getpid();
  if (limit != nullptr && is_ours) {
    watchdog_interval_ = std::strtoll(limit, nullptr, 10) * 1000 / 2;
  }
  for (const char* name : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}) unsetenv(name);
  if (path_.size() >= sizeof(sockaddr_un::sun_path)) path_.clear();
  if (path_.empty()) return;
  socket_.reset(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

void ServiceNotify::send(const std::string& text) {
  if (path_.empty() || !socket_) return;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path_.data(), path_.size());
  if (address.sun_path[0] == '@') address.sun_path[0] = '\0';
  const auto length =
      static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path_.size());
  // Nothing can be done about a systemd that does not listen.
  [[maybe_unused]] const ssize_t sent =
      sendto(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL,
             reinterpret_cast<const sockaddr*>(&address), length);
}

}  // namespace facet
