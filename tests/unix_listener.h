// A listening AF_UNIX socket at a path, as facetd hands them to a broker.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "common/base/check.h"
#include "common/base/unique_fd.h"

namespace facet {

// Whatever lies at the path before is removed. A failure ends the test.
inline UniqueFd listen_at(const std::string& path, int backlog, int type = SOCK_STREAM) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  FACET_CHECK(path.size() < sizeof address.sun_path);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  unlink(path.c_str());
  UniqueFd fd(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  FACET_CHECK(fd);
  FACET_CHECK(bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  FACET_CHECK(listen(fd.get(), backlog) == 0);
  return fd;
}

}  // namespace facet
