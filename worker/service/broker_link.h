// The worker's DEALER socket. The one place in worker/ that knows ZeroMQ.
#pragma once

#include <memory>
#include <optional>
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

  // The next message that is there already; never waits. kCorrupt: it has more than one frame.
  Result<std::optional<std::string>> receive();

  // Hands a message over, or keeps it until there is room: nothing is ever dropped. At most one is
  // kept, so send only when has_room().
  Status send(std::string message);
  bool has_room() const { return unsent_.empty(); }
  // Tries again with the message that is kept.
  Status flush();

  // Before an orderly exit: what was handed over is still delivered, for at most `timeout`.
  void linger(Nanos timeout);

  // Returns when a message is there, room for the kept message is, `also_fd` is readable, or
  // `timeout` has passed. Safe with ZeroMQ's edge-triggered descriptor.
  void wait(Nanos timeout, int also_fd);

 private:
  struct Sockets;
  explicit BrokerLink(std::unique_ptr<Sockets> sockets);

  std::unique_ptr<Sockets> sockets_;
  std::string unsent_;
};

}  // namespace facet
