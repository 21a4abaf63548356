#include "broker/service/control_channel.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

namespace facet {
namespace {

std::array<UniqueFd, kMaxPacketFds> take_descriptors(msghdr& header) {
  std::array<UniqueFd, kMaxPacketFds> fds;
  std::size_t count = 0;
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    // No more than these: the buffer has no room for another.
    for (std::size_t at = CMSG_LEN(0); at + sizeof(int) <= part->cmsg_len; at += sizeof(int)) {
      int number = -1;
      std::memcpy(&number, reinterpret_cast<const char*>(part) + at, sizeof number);
      if (count < fds.size()) fds[count++].reset(number);
    }
  }
  return fds;
}

}  // namespace

Result<std::optional<ControlChannel::Received>> ControlChannel::receive() {
  Received received;
  iovec data{.iov_base = &received.packet, .iov_len = sizeof received.packet};
  alignas(cmsghdr) char ancillary[CMSG_SPACE(kMaxPacketFds * sizeof(int))];
  msghdr header{};
  header.msg_iov = &data;
  header.msg_iovlen = 1;
  header.msg_control = ancillary;
  header.msg_controllen = sizeof ancillary;
  const ssize_t size = recvmsg(fd_, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size < 0) {
    if (errno == EAGAIN || errno == EINTR) return std::optional<Received>();
    if (errno == ECONNRESET) return Error(Code::kClosed, "the supervisor is gone");
    return errno_error("control socket", errno);
  }
  received.fds = take_descriptors(header);
  if (size == 0) return Error(Code::kClosed, "the supervisor is gone");
  if (size != sizeof received.packet) {
    return Error(Code::kCorrupt, "control packet of " + std::to_string(size) + " bytes, not " +
                                     std::to_string(sizeof received.packet));
  }
  return std::optional<Received>(std::move(received));
}

void ControlChannel::send(const ControlPacket& packet) {
  unsent_.push_back(packet);
  flush();
}

void ControlChannel::flush() {
  while (!unsent_.empty()) {
    const ssize_t size = ::send(fd_, &unsent_.front(), sizeof(ControlPacket),
                                MSG_DONTWAIT | MSG_NOSIGNAL);
    if (size < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOBUFS)) return;
    unsent_.pop_front();  // sent, or the supervisor is gone: receive() says so
  }
}

}  // namespace facet
