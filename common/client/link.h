// One connection to the broker: a DEALER socket. The only place in common/ that knows ZeroMQ.
// After a failure to open a socket (no descriptors left) it is a connection on which nothing moves;
// reconnect() tries again.
#pragma once

#include <memory>
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
  bool send(std::string_view map);
  // With frame 1, which is not copied: `owner` keeps its bytes until they are in the kernel, and
  // may be let go by ZeroMQ's thread.
  bool send(std::string_view map, std::string_view chunk, std::shared_ptr<const void> owner);

  // Frame 0 of a message that is there already.
  std::optional<zmq::message_t> receive();

  // Waits until something can be read, here or at `also_fd` (-1: nowhere else), or sent if
  // `want_send`. False: a signal came.
  bool wait(Nanos timeout, bool want_send, int also_fd);

 private:
  void open();
  bool send_frames(std::string_view map, zmq::message_t* chunk);

  std::string address_;
  zmq::context_t context_;
  zmq::socket_t socket_;
};

}  // namespace facet
