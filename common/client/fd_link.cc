#include "common/client/fd_link.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace facet {
namespace {

constexpr Nanos kPause = kSecond;  // between attempts

UniqueFd connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return {};
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return {};
  const auto* const name = reinterpret_cast<const sockaddr*>(&address);
  return ::connect(fd.get(), name, sizeof address) == 0 ? std::move(fd) : UniqueFd();
}

}  // namespace

FdLink::FdLink(const std::string& socket_path)
    : path_(socket_path + std::string(kFdSocketSuffix)) {}

bool FdLink::open(Nanos now) {
  if (fd_) return true;
  if (now < not_before_) return false;
  fd_ = connect_to(path_);
  if (!fd_) not_before_ = now + kPause;
  return static_cast<bool>(fd_);
}

void FdLink::close(Nanos now) {
  fd_.reset();
  not_before_ = now + kPause;
}

bool FdLink::send(const std::string& map, int image) {
  iovec data{.iov_base = const_cast<char*>(map.data()), .iov_len = map.size()};
  alignas(cmsghdr) char ancillary[CMSG_SPACE(sizeof image)] = {};
  msghdr header{};
  header.msg_iov = &data;
  header.msg_iovlen = 1;
  header.msg_control = ancillary;
  header.msg_controllen = sizeof ancillary;
  cmsghdr* const part = CMSG_FIRSTHDR(&header);
  part->cmsg_level = SOL_SOCKET;
  part->cmsg_type = SCM_RIGHTS;
  part->cmsg_len = CMSG_LEN(sizeof image);
  std::memcpy(CMSG_DATA(part), &image, sizeof image);
  ssize_t sent = -1;
  do {
    sent = ::sendmsg(fd_.get(), &header, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent == static_cast<ssize_t>(map.size());
}

Result<std::optional<PutFdAnswer>> FdLink::receive() {
  if (!fd_) return std::optional<PutFdAnswer>();
  std::array<char, kMaxFdDatagramBytes> bytes;
  const ssize_t size = ::recv(fd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return std::optional<PutFdAnswer>();
  if (size <= 0) return Error(Code::kClosed, path_ + ": closed by the daemon");
  return std::optional<PutFdAnswer>(
      FACET_TRY(decode_put_fd_answer({bytes.data(), static_cast<std::size_t>(size)})));
}

}  // namespace facet
