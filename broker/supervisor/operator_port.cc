#include "broker/supervisor/operator_port.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "common/control/fds.h"

namespace facet {
namespace {

// People at terminals, and a watcher or two: more is a mistake in a script.
constexpr std::size_t kMaxConnections = 16;
constexpr Nanos kMostSilence = 5 * kSecond;  // of a connection that has not asked yet

bool send_reply(int fd, const std::string& text, bool is_last, int exit_code) {
  OperatorReply reply;
  reply.is_last = is_last ? 1 : 0;
  reply.exit_code = exit_code;
  const std::size_t length = std::min(text.size(), sizeof reply.text - 1);
  std::memcpy(reply.text, text.data(), length);
  while (::send(fd, &reply, sizeof reply, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
    if (errno != EINTR) return false;
  }
  return true;
}

std::optional<ucred> peer_of(int fd) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return std::nullopt;
  return peer;
}

}  // namespace

int OperatorPort::accept(Nanos now) {
  UniqueFd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd) return -1;
  const auto peer = peer_of(fd.get());
  if (!peer || (peer->uid != 0 && peer->uid != geteuid())) {
    send_reply(fd.get(),
               "user " + (peer ? std::to_string(peer->uid) : "?") +
                   " may not: root and the daemon's user, " + std::to_string(geteuid()) + ", may",
               true, kOperatorNotPermitted);
    return -1;
  }
  if (connections_.size() >= kMaxConnections) {
    send_reply(fd.get(), std::to_string(kMaxConnections) + " operators are connected: no more",
               true, kExitFailure);
    return -1;
  }
  connections_.push_back({++last_client_, std::move(fd), false, now});
  return connections_.back().fd.get();
}

std::optional<OperatorPort::Asked> OperatorPort::receive(int fd) {
  Connection* known = find(fd);
  if (known == nullptr) return std::nullopt;
  OperatorRequest request;
  const ssize_t count = recv(fd, &request, sizeof request, MSG_DONTWAIT | MSG_TRUNC);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return std::nullopt;
  const std::uint64_t client = known->client;
  if (count <= 0 || known->has_asked) {
    drop(client);  // it ended, or asks a second thing: what it began goes on
    return std::nullopt;
  }
  if (count != sizeof request || request.magic != OperatorRequest::kMagic) {
    tell(client, "this daemon is of another version than this command", true, kExitFailure);
    return std::nullopt;
  }
  known->has_asked = true;
  return Asked{client, request};
}

void OperatorPort::tell(std::uint64_t client, const std::string& text, bool is_last,
                        int exit_code) {
  for (const Connection& connection : connections_) {
    if (connection.client == client) send_reply(connection.fd.get(), text, is_last, exit_code);
  }
  if (is_last) drop(client);
}

void OperatorPort::expire(Nanos now) {
  std::erase_if(connections_, [now](const Connection& connection) {
    return !connection.has_asked && now - connection.since > kMostSilence;
  });
}

OperatorPort::Connection* OperatorPort::find(int fd) {
  const auto found = std::find_if(connections_.begin(), connections_.end(),
                                  [fd](const Connection& c) { return c.fd.get() == fd; });
  return found == connections_.end() ? nullptr : &*found;
}

void OperatorPort::drop(std::uint64_t client) {
  std::erase_if(connections_, [client](const Connection& c) { return c.client == client; });
}

}  // namespace facet
