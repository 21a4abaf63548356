// The daemon's folder: one owner at a time, its lock, its listening sockets.
#pragma once

#include <sys/socket.h>

#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/base/unique_fd.h"

namespace facet {

class RuntimeDir {
 public:
  // Makes the folder where needed (0750), refuses one that others may write to, and takes the lock
  // in it. kExhausted when another daemon holds it; the message names its pid.
  static Result<RuntimeDir> claim(const std::string& path);

  const std::string& path() const { return path_; }

  // Binds a listening AF_UNIX socket (`type`: SOCK_STREAM or SOCK_SEQPACKET). A socket file that
  // nobody listens on is replaced; one that is listened on, or a file of another kind, is left
  // alone and refused. `mode` is that of the socket file, narrowed by the umask.
  static Result<UniqueFd> listen(const std::string& socket_path, unsigned mode,
                                 int type = SOCK_STREAM);

  // Writes a file for our own children, replaced at once (0600).
  Status write_file(const std::string& name, const std::string& content) const;

  // Removes `files` (full paths) and the lock file. The lock itself ends with this object.
  void leave(const std::vector<std::string>& files) const;

 private:
  RuntimeDir(std::string path, UniqueFd lock) : path_(std::move(path)), lock_(std::move(lock)) {}

  std::string path_;
  UniqueFd lock_;  // closed on exec: children do not hold it
};

}  // namespace facet
