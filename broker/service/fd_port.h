// Images that local clients hand over as a descriptor (common/protocol/put_fd.h): a SOCK_SEQPACKET
// socket beside that of ZeroMQ. Each image is copied once, from its memfd into the ring, in pieces
// that go to the core as chunks do, so every rule of an upload holds for it too. What the client
// writes meanwhile may change what arrives, never what was checked: that is done on the copy.
//
// Nothing here waits: sockets are non-blocking, and a memfd's memory is only copied. Where its
// seals say that it has no holes and gets none it is mapped and copied once; else it is read by
// pread, for a hole that is read through a mapping takes memory on the broker's account. One image
// is open at a time.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "broker/core/actions.h"
#include "broker/core/events.h"
#include "common/base/unique_fd.h"
#include "common/protocol/put_fd.h"
#include "common/shm/shared_region.h"

namespace facet {

class FdPort {
 public:
  struct Limits {
    std::size_t max_connections = 0;
    std::size_t max_per_user = 0;
  };
  struct Counters {
    std::uint64_t received = 0;  // datagrams
    std::uint64_t stored = 0;
    std::uint64_t refused_malformed = 0;
    std::uint64_t refused_full = 0;  // connections for which there was no room
  };
  using EventSink = std::function<void(Event)>;

  // `listener`: SOCK_SEQPACKET, non-blocking, not owned; -1: nobody ever comes.
  FdPort(int listener, const Limits& limits, EventSink sink);

  // Readable when receive() has something to do; -1 without a listener.
  int poll_fd() const { return epoll_.get(); }

  // Takes connections and images, and copies for at most a few milliseconds; what there is to tell
  // goes to the sink. True: there is more to do.
  bool receive(Nanos now);

  // The copy of an image goes on whose client was told that it is taken: until receive() has ended
  // that nothing may be read of the clients' other socket, where the request may have come already.
  bool has_taken() const { return job_ && job_->is_taken; }
  // That socket has had its turn: one more image may be taken.
  void allow_taken() { may_take_ = true; }

  // Its tokens are no ClientTable's.
  static bool is_token(ClientToken token) { return token >= kFirstToken; }
  // An answer. Where it finds no room the peer does not read: its connection ends (ClientGone at
  // the end of `events`).
  void send(const SendClient& action, std::deque<Event>& events);

  const Counters& counters() const { return counters_; }
  std::size_t num_connections() const { return connections_.size(); }

 private:
  static constexpr ClientToken kFirstToken = ClientToken{1} << 63;

  // A memfd's memory in this process, kept for the next image in it.
  struct Mapped {
    dev_t device = 0;
    ino_t inode = 0;
    std::shared_ptr<const MappedRegion> region;
  };
  struct Connection {
    UniqueFd fd;
    UserId user = 0;
    Nanos last_seen = 0;
    std::deque<Mapped> mapped;  // the newest last
  };
  struct Job {
    ClientToken client = 0;
    UserId user = 0;
    PutFd put;
    UniqueFd image;
    std::shared_ptr<const MappedRegion> mapped;  // if it may be
    std::uint64_t offset = 0;
    bool is_taken = false;  // and its client was told so
  };

  void accept_all(Nanos now);
  bool accept_one(Nanos now);
  bool make_room(UserId user, Nanos now);
  void watch_listener(bool is_watched);
  bool end_if_left(ClientToken token);
  void read_datagram(ClientToken token, Nanos now);
  void begin(ClientToken token, UserId user, std::string_view map, std::vector<UniqueFd> fds,
             std::optional<Error> broken);
  void refuse(ClientToken token, UserId user, const PutFd& put, std::uint64_t offset, Error error);
  void copy(std::size_t& budget);
  void tell_taken();
  Result<std::string_view> next_piece();
  std::shared_ptr<const MappedRegion> map_for(ClientToken token, int image);
  static void forget_oldest(Connection& connection, std::uint64_t& mapped_bytes);
  void drop(ClientToken token);
  std::size_t held_by(UserId user) const;

  const int listener_;
  const Limits limits_;
  EventSink sink_;
  UniqueFd epoll_;
  std::map<ClientToken, Connection> connections_;
  ClientToken next_token_ = kFirstToken;
  std::optional<Job> job_;
  bool may_take_ = true;
  std::vector<char> piece_;
  std::uint64_t mapped_bytes_ = 0;  // that connections keep
  Nanos rest_until_ = 0;            // no connection is taken: there was no descriptor for one
  Counters counters_;
};

// Why this descriptor is not one whose content can be copied, if it is not: a memfd of at least
// `bytes` bytes that cannot shrink. The message says what is wanted.
Status check_image_fd(int fd, std::uint64_t bytes);
// All of one that passed, where nobody can take memory from it or leave it holes: sealed with
// F_SEAL_FUTURE_WRITE (or F_SEAL_WRITE), all of it there, at most kMaxFdMapped bytes.
std::shared_ptr<const MappedRegion> map_image(int fd);

}  // namespace facet
