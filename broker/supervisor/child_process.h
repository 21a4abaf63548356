// Starts a program with given descriptors at given numbers, bound to the life of this process.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "broker/supervisor/restart_policy.h"
#include "common/base/result.h"
#include "common/base/unique_fd.h"

namespace facet {

struct ChildProgram {
  std::string path;
  std::vector<std::string> arguments;        // without the program's own name
  std::vector<std::pair<int, int>> fds;      // {open descriptor here, number in the child}, 3 up
  std::vector<std::string> environment = {};  // "NAME=value", in the place of ours of that name
};

// A child that is forked but waits before exec until released: in between its birth can be told.
class ChildProcess {
 public:
  // The child gets SIGKILL when this thread ends, a process group of its own (a terminal's Ctrl-C
  // is ours alone), default signals, no standard input, our standard error as both outputs, and
  // nothing open beyond `fds`. Call from the main thread only.
  static Result<ChildProcess> fork_waiting(const ChildProgram& program);

  // Lets it exec. On failure (no such program, ...) the child is reaped and the error says why.
  Status release();

  pid_t pid() const { return pid_; }
  int pidfd() const { return pidfd_.get(); }  // readable once it has ended
  void signal(int number) const;
  // Reaps it if it has ended; never waits.
  std::optional<ChildEnd> reap();
  // How it will end, once it is dying; it may take long to be gone. Nothing for an exit with 0.
  std::optional<ChildEnd> end_to_come() const;
  bool is_stopped() const;  // state T: somebody sent SIGSTOP

  ChildProcess() = default;

 private:
  pid_t pid_ = -1;
  std::string path_;
  UniqueFd pidfd_;
  UniqueFd go_;           // closing it lets the child end, a byte lets it exec
  UniqueFd exec_failure_;  // EOF: exec succeeded; else the errno
};

}  // namespace facet
