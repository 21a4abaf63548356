// The fork server: jobs in over a SOCK_SEQPACKET socket, one sandboxed child per image, replies
// out. Single-threaded; it never touches an image byte. Jobs beyond `max_children` wait in the
// socket, so the broker is held back by itself.
#pragma once

#include <poll.h>
#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "broker/decoder/decode_image.h"
#include "broker/decoder/sandbox.h"
#include "common/base/clock.h"
#include "common/base/result.h"
#include "common/base/unique_fd.h"
#include "common/control/packets.h"

namespace facet {

struct DecodeServerOptions {
  int job_fd = -1;
  int ring_fd = -1;
  int lifeline_fd = -1;  // -1: none
  std::uint32_t max_children = 1;
  SandboxLimits limits;
  Nanos wall_limit = 0;  // of one child; 0 = four times the CPU limit
  Decode* decode = decode_image;
};

// How a child's end reads as an outcome.
struct ChildEnd {
  int wait_status = 0;           // of waitpid()
  bool is_timed_out = false;     // the server killed it for its wall-clock limit
  bool is_out_of_cpu = false;    // it had used up its CPU limit
};
DecodeOutcome outcome_of(const ChildEnd& end, bool has_answer, bool is_decoded);

class DecodeServer {
 public:
  // Fails when a descriptor is missing or the sandbox cannot be built.
  static Result<DecodeServer> create(const DecodeServerOptions& options);

  // Serves until the other end of the job socket is closed; ends all children then.
  Status run();

 private:
  struct Child {
    std::uint64_t job = 0;
    pid_t pid = -1;
    UniqueFd pidfd;
    UniqueFd result;  // read end
    Nanos deadline = 0;
    bool is_timed_out = false;
  };

  DecodeServer(const DecodeServerOptions& options, UniqueFd read_only_ring,
               std::uint64_t ring_bytes, std::vector<sock_filter> filter);
  Result<bool> take_job();  // false: end of file
  Status start_child(const DecodeJob& job);
  Status finish_child(Child& child);
  Status reply(std::uint64_t job, DecodeOutcome outcome, const char* message);
  void kill_overdue();
  Status collect(const std::vector<pollfd>& polled);
  int poll_timeout_ms() const;
  void end_all();

  DecodeServerOptions options_;
  UniqueFd read_only_ring_;  // a mapping of it cannot be made writable
  std::uint64_t ring_bytes_ = 0;
  std::vector<sock_filter> filter_;
  std::vector<Child> children_;
};

}  // namespace facet
