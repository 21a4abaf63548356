// The supervisor's end of the operators' socket (common/control/operator_packets.h). Takes
// fixed-size packets from root and from the daemon's own user, as the kernel names them; nobody
// else is heard.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/result.h"
#include "common/base/unique_fd.h"
#include "common/control/operator_packets.h"

namespace facet {

class OperatorPort {
 public:
  // `listener`: SOCK_SEQPACKET, non-blocking; may be none (then nobody can ask).
  explicit OperatorPort(UniqueFd listener) : listener_(std::move(listener)) {}

  int listener() const { return listener_.get(); }
  // A new connection to be watched, or -1: none was there, or it was turned away.
  int accept(Nanos now);

  bool is_connection(int fd) { return find(fd) != nullptr; }
  struct Asked {
    std::uint64_t client = 0;  // never 0, never given twice
    OperatorRequest request;
  };
  // The request on a readable connection. Nothing: it ended, or did not speak this protocol.
  std::optional<Asked> receive(int fd);

  // A progress line is dropped where it finds no room; after the last one the connection ends.
  // A client that went away is nobody's loss.
  void tell(std::uint64_t client, const std::string& text, bool is_last, int exit_code);

  // Ends connections that have asked nothing for a while.
  void expire(Nanos now);

 private:
  struct Connection {
    std::uint64_t client = 0;
    UniqueFd fd;
    bool has_asked = false;
    Nanos since = 0;
  };
  Connection* find(int fd);
  void drop(std::uint64_t client);

  UniqueFd listener_;
  std::vector<Connection> connections_;
  std::uint64_t last_client_ = 0;
};

}  // namespace facet
