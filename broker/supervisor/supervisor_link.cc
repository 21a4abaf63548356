#include "broker/supervisor/supervisor_link.h"

#include <cerrno>
#include <cstring>
#include <sys/socket.h>

#include "common/base/check.h"

namespace facet {

Result<UniqueFd> SupervisorLink::open() {
  close();
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return errno_error("socketpair for the broker", errno);
  }
  fd_.reset(ends[0]);
  return UniqueFd(ends[1]);
}

void SupervisorLink::close() {
  fd_.reset();
  unsent_.clear();
}

void SupervisorLink::send(const ControlPacket& packet, std::vector<UniqueFd> along) {
  FACET_CHECK(along.size() <= kMaxPacketFds);
  if (!fd_) return;
  unsent_.push_back({packet, std::move(along)});
  flush();
}

void SupervisorLink::flush() {
  while (!unsent_.empty() && send_one(unsent_.front())) unsent_.pop_front();
}

// False: the socket is full. A broker that is gone takes everything: its pidfd tells the rest.
bool SupervisorLink::send_one(const Unsent& unsent) {
  ControlPacket packet = unsent.packet;
  iovec data{&packet, sizeof packet};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char buffer[CMSG_SPACE(kMaxPacketFds * sizeof(int))] = {};
  if (!unsent.along.empty()) {
    message.msg_control = buffer;
    message.msg_controllen = CMSG_SPACE(unsent.along.size() * sizeof(int));
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(unsent.along.size() * sizeof(int));
    int fds[kMaxPacketFds] = {};
    for (std::size_t i = 0; i < unsent.along.size(); ++i) fds[i] = unsent.along[i].get();
    std::memcpy(CMSG_DATA(header), fds, unsent.along.size() * sizeof(int));
  }
  while (sendmsg(fd_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
    if (errno == EINTR) continue;
    return errno != EAGAIN && errno != EWOULDBLOCK && errno != ENOBUFS;
  }
  return true;
}

std::optional<ControlPacket> SupervisorLink::receive() {
  while (fd_) {
    ControlPacket packet;
    const ssize_t count = recv(fd_.get(), &packet, sizeof packet, MSG_DONTWAIT | MSG_TRUNC);
    if (count == sizeof packet) return packet;
    if (count < 0 && errno == EINTR) continue;
    if (count > 0) continue;  // of another size: dropped
    if (count == 0) close();  // the broker is gone: its pidfd tells the rest
    return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace facet
