// The supervisor's end of the packets to and from the broker. A new one for each broker.
#pragma once

#include <deque>
#include <optional>
#include <vector>

#include "common/base/result.h"
#include "common/base/unique_fd.h"
#include "common/control/packets.h"

namespace facet {

class SupervisorLink {
 public:
  // Opens a fresh SOCK_SEQPACKET pair; returns the broker's end.
  Result<UniqueFd> open();
  void close();
  int fd() const { return fd_.get(); }  // -1: closed

  // Sends now or at a later flush(), in order; `along` (kMaxPacketFds at most) goes with the
  // packet.
  void send(const ControlPacket& packet, std::vector<UniqueFd> along = {});
  void flush();

  // A packet that is there already; never waits.
  std::optional<ControlPacket> receive();

 private:
  struct Unsent {
    ControlPacket packet;
    std::vector<UniqueFd> along;
  };
  bool send_one(const Unsent& unsent);

  UniqueFd fd_;
  std::deque<Unsent> unsent_;  // a broker that does not read is ended by its deadline
};

}  // namespace facet
