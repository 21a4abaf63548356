// The worker's DEALER socket, by which it speaks to the broker; what the broker says comes by the
// mailbox. The one place in worker/ that knows ZeroMQ.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "common/base/clock.h"
#include "common/base/result.h"

namespace facet {

class BrokerLink {
 public:
  // Connects as `identity` ("index.incarnation.epoch": never used twice) to ipc://`socket_path`.
  // kInvalidArgument: the path is too long. The connection itself is made in the background.
  static Result<std::unique_ptr<BrokerLink>> connect(const std::string& socket_path,
                                                     const std::string& identity);
  ~BrokerLink();
  BrokerLink(const BrokerLink&) = delete;
  BrokerLink& operator=(const BrokerLink&) = delete;

  // Hands a message over, or keeps it until there is room: nothing is ever dropped. At most one is
  // kept, so send only when has_room().
  Status send(std::string message);
  bool has_room() const { return unsent_.empty(); }
  // Tries again with the message that is kept.
  Status flush();

  // Before an orderly exit: what was handed over is still delivered, for at most `timeout`.
  void linger(Nanos timeout);

  // Without room: returns when there is, one of `fds` (at most 3) is readable, or `timeout` has
  // passed. Safe with ZeroMQ's edge-triggered descriptor.
  void wait(Nanos timeout, std::span<const int> fds);

 private:
  struct Sockets;
  explicit BrokerLink(std::unique_ptr<Sockets> sockets);

  std::unique_ptr<Sockets> sockets_;
  std::string unsent_;
};

}  // namespace facet
