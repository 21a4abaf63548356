#include "broker/service/fd_port.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "broker/service/service_limits.h"
#include "common/base/crash_point.h"
#include "common/protocol/codec.h"
#include "common/protocol/limits.h"

namespace facet {
namespace {

constexpr ClientToken kListenerTag = 0;
// Descriptors of one datagram that are looked at; the kernel closes what is beyond.
constexpr std::size_t kFdsSeen = 4;
constexpr Nanos kAcceptRest = 100 * kMillisecond;

UserId user_of(int fd) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 ? peer.uid : kUnknownUser;
}

std::vector<UniqueFd> descriptors_of(msghdr& header) {
  std::vector<UniqueFd> fds;
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int number = -1;
      std::memcpy(&number, CMSG_DATA(part) + i * sizeof number, sizeof number);
      fds.emplace_back(number);
    }
  }
  return fds;
}

bool send_datagram(int fd, const std::string& bytes) {
  ssize_t sent = -1;
  do {
    sent = ::send(fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent == static_cast<ssize_t>(bytes.size());
}

bool has_left(int fd) {
  pollfd item{.fd = fd, .events = POLLRDHUP, .revents = 0};
  return poll(&item, 1, 0) > 0 && (item.revents & (POLLHUP | POLLRDHUP | POLLERR)) != 0;
}

// What is wrong with the descriptors of a datagram, whatever it says.
std::optional<Error> check_count(std::size_t count, int flags) {
  if (count == 1 && (flags & MSG_CTRUNC) == 0) return std::nullopt;
  if (count == 0 && (flags & MSG_CTRUNC) != 0) {
    return Error(Code::kInternal, "put_fd: its descriptor could not be taken");
  }
  const bool is_cut = (flags & MSG_CTRUNC) != 0;
  return Error(Code::kInvalidArgument, "put_fd: " + std::to_string(count) +
                                           (is_cut ? " or more" : "") +
                                           " descriptors came with it; one is wanted");
}

}  // namespace

Status check_image_fd(int fd, std::uint64_t bytes) {
  const int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0) {
    return Error(Code::kInvalidArgument,
                 "put_fd: the descriptor is not a memfd; one is wanted that was made with "
                 "memfd_create(MFD_ALLOW_SEALING) and sealed with F_SEAL_SHRINK");
  }
  if ((seals & F_SEAL_SHRINK) == 0) {
    return Error(Code::kInvalidArgument, "put_fd: the memfd is not sealed with F_SEAL_SHRINK");
  }
  if ((fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY) {
    return Error(Code::kInvalidArgument, "put_fd: the memfd is not open for reading");
  }
  struct stat status {};
  if (fstat(fd, &status) != 0) return errno_error("put_fd: the memfd", errno);
  if (static_cast<std::uint64_t>(status.st_size) >= bytes) return {};
  return Error(Code::kInvalidArgument, "put_fd: the memfd has " + std::to_string(status.st_size) +
                                           " bytes; `total` is " + std::to_string(bytes));
}

std::shared_ptr<const MappedRegion> map_image(int fd) {
  constexpr std::uint64_t kBlockBytes = 512;  // of st_blocks
  const int seals = fcntl(fd, F_GET_SEALS);
  struct stat status {};
  if (seals < 0 || (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) == 0 || fstat(fd, &status) != 0) {
    return nullptr;
  }
  const auto size = static_cast<std::uint64_t>(status.st_size);
  const auto there = static_cast<std::uint64_t>(status.st_blocks) * kBlockBytes;
  if (there < size || size > kMaxFdMapped) return nullptr;
  auto region = MappedRegion::map(fd, MapAccess::kReadOnly, 0, size);
  if (!region) return nullptr;
  // In one go; what fails here happens page by page later.
  const auto memory = region->bytes();
  madvise(const_cast<std::byte*>(memory.data()), memory.size(), MADV_POPULATE_READ);
  return std::make_shared<const MappedRegion>(std::move(*region));
}

FdPort::FdPort(int listener, const Limits& limits, EventSink sink)
    : listener_(listener), limits_(limits), sink_(std::move(sink)) {
  if (listener_ < 0) return;
  epoll_.reset(epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{.events = EPOLLIN, .data = {.u64 = kListenerTag}};
  epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, listener_, &event);
  piece_.resize(kFdPieceBytes);
}

void FdPort::watch_listener(bool is_watched) {
  epoll_event event{.events = is_watched ? EPOLLIN : 0u, .data = {.u64 = kListenerTag}};
  epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, listener_, &event);
}

bool FdPort::receive(Nanos now) {
  if (!epoll_) return false;
  if (rest_until_ != 0 && now >= rest_until_) {
    rest_until_ = 0;
    watch_listener(true);
  }
  std::size_t budget = kFdBytesPerTurn;
  if (job_) end_if_left(job_->client);
  copy(budget);
  if (job_) return true;
  // One event each time: the kernel puts it at the end of its list, so every connection has its
  // turn, however much the others send.
  for (int i = 0; i < kClientBurst && budget > 0; ++i) {
    epoll_event event{};
    if (epoll_wait(epoll_.get(), &event, 1, 0) != 1) return false;
    if (event.data.u64 == kListenerTag) {
      accept_all(now);
    } else {
      read_datagram(event.data.u64, now);
    }
    copy(budget);
    if (job_) return true;
  }
  return true;
}

void FdPort::accept_all(Nanos now) {
  for (int i = 0; i < kClientBurst && accept_one(now); ++i) {
  }
}

bool FdPort::accept_one(Nanos now) {
  UniqueFd fd(accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd) {
    if (errno == EINTR || errno == ECONNABORTED) return true;
    if (errno != EAGAIN) {  // no descriptors: the peers wait, and this loop must not spin
      watch_listener(false);
      rest_until_ = now + kAcceptRest;
    }
    return false;
  }
  const UserId user = user_of(fd.get());
  if (!make_room(user, now)) {
    ++counters_.refused_full;
    send_datagram(fd.get(), encode_message(
                                Refused{{},
                                        Code::kExhausted,
                                        std::to_string(connections_.size()) +
                                            " connections for descriptors are open; the limit is " +
                                            std::to_string(limits_.max_connections) +
                                            ", of one user " + std::to_string(limits_.max_per_user),
                                        kTableFullRetryMs}));
    return true;
  }
  const ClientToken token = next_token_++;
  epoll_event event{.events = EPOLLIN, .data = {.u64 = token}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd.get(), &event) != 0) return true;
  connections_.emplace(token, Connection{std::move(fd), user, now});
  return true;
}

// One that has said nothing for a while gives way: its client comes back when it needs to.
bool FdPort::make_room(UserId user, Nanos now) {
  const bool is_user_full = held_by(user) >= limits_.max_per_user;
  if (!is_user_full && connections_.size() < limits_.max_connections) return true;
  ClientToken oldest = 0;
  Nanos seen = now - kClientStaleAfter + 1;
  for (const auto& [token, connection] : connections_) {
    if ((is_user_full && connection.user != user) || connection.last_seen >= seen) continue;
    oldest = token;
    seen = connection.last_seen;
  }
  if (oldest == 0) return false;
  drop(oldest);
  sink_(ClientGone{oldest});
  return true;
}

// Nothing of a client that has closed is taken any more: it may send the same by another way now,
// and the two must not mix. True: it had.
bool FdPort::end_if_left(ClientToken token) {
  if (!has_left(connections_.at(token).fd.get())) return false;
  drop(token);
  sink_(ClientGone{token});
  return true;
}

void FdPort::read_datagram(ClientToken token, Nanos now) {
  const auto found = connections_.find(token);
  if (found == connections_.end() || end_if_left(token)) return;  // gave way a moment ago, or left
  std::array<char, kMaxFdDatagramBytes> map;
  iovec data{.iov_base = map.data(), .iov_len = map.size()};
  alignas(cmsghdr) char ancillary[CMSG_SPACE(kFdsSeen * sizeof(int))];
  msghdr header{};
  header.msg_iov = &data;
  header.msg_iovlen = 1;
  header.msg_control = ancillary;
  header.msg_controllen = sizeof ancillary;
  const ssize_t size = recvmsg(found->second.fd.get(), &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (size <= 0) {
    if (size == 0) descriptors_of(header);  // of an empty datagram, which ends it too
    drop(token);
    return sink_(ClientGone{token});
  }
  std::vector<UniqueFd> fds = descriptors_of(header);
  found->second.last_seen = now;
  ++counters_.received;
  FACET_CRASH_POINT("put_fd.received");
  std::optional<Error> broken = check_count(fds.size(), header.msg_flags);
  if ((header.msg_flags & MSG_TRUNC) != 0) {
    broken = Error(Code::kTooLarge, "put_fd: a datagram has at most " +
                                        std::to_string(kMaxFdDatagramBytes) + " bytes");
  }
  begin(token, found->second.user, {map.data(), static_cast<std::size_t>(size)}, std::move(fds),
        std::move(broken));
}

void FdPort::begin(ClientToken token, UserId user, std::string_view map, std::vector<UniqueFd> fds,
                   std::optional<Error> broken) {
  const auto put = decode_put_fd(map);
  if (!put) {
    PutFd unread{find_request_id(map).value_or(RequestId{}), UINT32_MAX, 0};
    return refuse(token, user, unread, 0, broken ? *broken : put.error());
  }
  if (!broken) {
    if (Status status = check_image_fd(fds[0].get(), put->total_bytes); !status) {
      broken = std::move(status).error();
    }
  }
  if (broken) return refuse(token, user, *put, 0, *broken);
  auto mapped = map_for(token, fds[0].get());
  job_.emplace(Job{token, user, *put, std::move(fds[0]), std::move(mapped)});
}

// The core answers, because what it keeps under the id is refused with it. Without an id it keeps
// nothing.
void FdPort::refuse(ClientToken token, UserId user, const PutFd& put, std::uint64_t offset,
                    Error error) {
  ++counters_.refused_malformed;
  if (!put.id.is_zero()) {
    const PutChunk chunk{put.id, put.image, 0, offset};
    return sink_(ClientPut{token, chunk, {}, std::move(error), user, true});
  }
  std::deque<Event> events;
  send({token, Refused{{}, error.code, error.message, 0}}, events);
  for (Event& event : events) sink_(std::move(event));
}

// A client fills the same few memfds again and again; mapping them costs as much as copying.
std::shared_ptr<const MappedRegion> FdPort::map_for(ClientToken token, int image) {
  struct stat status {};
  if (fstat(image, &status) != 0) return nullptr;
  Connection& connection = connections_.at(token);
  for (const Mapped& mapped : connection.mapped) {
    if (mapped.device == status.st_dev && mapped.inode == status.st_ino &&
        mapped.region->bytes().size() == static_cast<std::uint64_t>(status.st_size))
      return mapped.region;
  }
  auto region = map_image(image);
  if (region == nullptr) return nullptr;
  if (connection.mapped.size() >= kMaxFdMappings) forget_oldest(connection, mapped_bytes_);
  if (mapped_bytes_ + region->bytes().size() > kMaxFdMapped) return region;  // for this once
  mapped_bytes_ += region->bytes().size();
  connection.mapped.push_back({status.st_dev, status.st_ino, region});
  return region;
}

void FdPort::forget_oldest(Connection& connection, std::uint64_t& mapped_bytes) {
  mapped_bytes -= connection.mapped.front().region->bytes().size();
  connection.mapped.pop_front();
}

// What follows of the image, at most a chunk of it.
Result<std::string_view> FdPort::next_piece() {
  const std::uint64_t left = job_->put.total_bytes - job_->offset;
  if (job_->mapped) {
    const auto* const bytes = reinterpret_cast<const char*>(job_->mapped->bytes().data());
    return std::string_view(bytes + job_->offset, std::min<std::uint64_t>(kMaxChunkBytes, left));
  }
  ssize_t got = -1;
  do {
    got = pread(job_->image.get(), piece_.data(), std::min<std::uint64_t>(piece_.size(), left),
                static_cast<off_t>(job_->offset));
  } while (got < 0 && errno == EINTR);
  if (got < 0) return errno_error("put_fd: the memfd cannot be read", errno);
  if (got == 0) return Error(Code::kInvalidArgument, "put_fd: the memfd became shorter");
  return std::string_view(piece_.data(), static_cast<std::size_t>(got));
}

void FdPort::copy(std::size_t& budget) {
  while (job_ && budget > 0) {
    const auto piece = next_piece();
    const Job& job = *job_;
    if (!piece) return refuse(job.client, job.user, job.put, job.offset, piece.error());
    const PutChunk chunk{job.put.id, job.put.image, job.put.total_bytes, job.offset};
    const ClientToken client = job.client;
    job_->offset += piece->size();
    const bool is_last = job.offset == job.put.total_bytes;
    budget -= std::min(budget, piece->size());
    sink_(ClientPut{client, chunk, *piece, {}, job.user, true});
    if (job_ && is_last) {  // cannot be: the core answers the last piece
      drop(client);
      sink_(ClientGone{client});
    }
    tell_taken();
  }
}

// Once the core has taken the first piece there is room for all of it.
void FdPort::tell_taken() {
  if (!job_ || !job_->put.wants_taken || job_->is_taken || !may_take_) return;
  if (job_->put.total_bytes > kMaxTakenBytes) return;
  const ClientToken client = job_->client;
  may_take_ = false;
  job_->is_taken = true;
  const Taken taken{job_->put.id, job_->put.image};
  if (!send_datagram(connections_.at(client).fd.get(), encode_message(taken))) {
    drop(client);
    return sink_(ClientGone{client});
  }
  FACET_CRASH_POINT("put_fd.taken");
}

void FdPort::send(const SendClient& action, std::deque<Event>& events) {
  const auto found = connections_.find(action.client);
  if (found == connections_.end()) return;  // its end was reported already
  if (job_ && job_->client == action.client) job_.reset();
  if (std::holds_alternative<Stored>(action.message)) ++counters_.stored;
  FACET_CRASH_POINT("put_fd.answering");
  const std::string payload =
      std::visit([](const auto& notice) { return encode_message(notice); }, action.message);
  if (send_datagram(found->second.fd.get(), payload)) return;
  drop(action.client);
  events.push_back(ClientGone{action.client});
}

void FdPort::drop(ClientToken token) {
  if (job_ && job_->client == token) job_.reset();
  const auto found = connections_.find(token);
  if (found == connections_.end()) return;
  while (!found->second.mapped.empty()) forget_oldest(found->second, mapped_bytes_);
  connections_.erase(found);
}

std::size_t FdPort::held_by(UserId user) const {
  return static_cast<std::size_t>(
      std::count_if(connections_.begin(), connections_.end(),
                    [user](const auto& entry) { return entry.second.user == user; }));
}

}  // namespace facet
