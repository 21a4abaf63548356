// A daemon of one's own for the time of one command.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "common/base/clock.h"
#include "common/base/result.h"
#include "common/base/unique_fd.h"
#include "common/config/config.h"

namespace facet {

// Owns a facetd in a session of its own (Ctrl-C does not reach it) and its temporary folder.
// It ends with this object. When this process is killed, facetd ends by itself, and a small process
// that waits for that removes the folder; if that is killed too, the next private daemon does.
// To be made before there are threads: it forks.
class PrivateDaemon {
 public:
  // Starts facetd with this configuration, but runtime_dir, socket and log file in the new folder,
  // and waits until it serves. kCancelled: a signal came. Otherwise the message holds the end of
  // its log.
  static Result<std::unique_ptr<PrivateDaemon>> start(Config config);
  ~PrivateDaemon();
  PrivateDaemon(const PrivateDaemon&) = delete;
  PrivateDaemon& operator=(const PrivateDaemon&) = delete;

  const std::string& socket_path() const { return socket_; }
  bool is_running();
  std::string log_tail() const;  // its last lines, for an error message

 private:
  PrivateDaemon() = default;
  Status make_folder();
  Status spawn(const std::string& program, int ready_fd);
  Status wait_ready(int ready_fd);
  void stop();

  std::string folder_;
  std::string socket_;
  std::string log_;
  UniqueFd lock_;  // held by facetd too: tells the sweep that the folder is in use
  pid_t pid_ = -1;
  pid_t cleaner_ = -1;  // removes the folder if this process is killed
};

}  // namespace facet
