// The broker's end of the packets between supervisor and broker (common/control/packets.h).
#pragma once

#include <array>
#include <deque>
#include <optional>

#include "common/base/result.h"
#include "common/base/unique_fd.h"
#include "common/control/packets.h"

namespace facet {

class ControlChannel {
 public:
  explicit ControlChannel(int fd) : fd_(fd) {}  // SOCK_SEQPACKET, not owned

  struct Received {
    ControlPacket packet;
    std::array<UniqueFd, kMaxPacketFds> fds;  // what came along, if anything
  };
  // A packet that is there already; never waits. kClosed: the supervisor is gone.
  Result<std::optional<Received>> receive();

  // Sends now or as soon as there is room, in order. Packets are few: workers times restarts.
  void send(const ControlPacket& packet);
  void flush();
  bool has_unsent() const { return !unsent_.empty(); }
  int fd() const { return fd_; }

 private:
  int fd_;
  std::deque<ControlPacket> unsent_;
};

}  // namespace facet
