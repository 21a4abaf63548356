// The connection by which images are handed over as descriptors (common/protocol/put_fd.h), where
// the daemon offers it. What cannot be had here is no failure: chunks are the way then.
#pragma once

#include <optional>
#include <string>

#include "common/base/clock.h"
#include "common/base/unique_fd.h"
#include "common/protocol/put_fd.h"

namespace facet {

class FdLink {
 public:
  // `socket_path`: of the clients' socket.
  explicit FdLink(const std::string& socket_path);

  // Connected, now if need be. After a failure it is not tried again for a while.
  bool open(Nanos now);
  void close(Nanos now);
  int fd() const { return fd_.get(); }  // -1 when closed

  // One datagram with one descriptor. False: it did not go; the connection is of no use.
  bool send(const std::string& map, int image);

  // An answer that is there already. An Error: the connection has ended, or says something else.
  Result<std::optional<PutFdAnswer>> receive();

 private:
  const std::string path_;
  UniqueFd fd_;
  Nanos not_before_ = 0;
};

}  // namespace facet
