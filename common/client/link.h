// One connection to the broker: a DEALER socket. The only place in common/ that knows ZeroMQ.
// After a failure to open a socket (no descriptors left) it is a connection on which nothing moves;
// reconnect() tries again.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <zmq.hpp>

#include "common/base/clock.h"

namespace facet {

class Link {
 public:
  explicit Link(const std::string& socket_path);

  // Drops the connection and all that waits in it, and makes a new one under a new identity.
  void reconnect();

  // False: the socket takes nothing now.
  bool send(std::string_view map, std::optional<std::string_view> chunk = std::nullopt);

  // Frame 0 of a message that is there already.
  std::optional<zmq::message_t> receive();

  // Waits until something can be read, or sent if `want_send`. False: a signal came.
  bool wait(Nanos timeout, bool want_send);

 private:
  void open();

  std::string address_;
  zmq::context_t context_;
  zmq::socket_t socket_;
};

}  // namespace facet
