// The mailbox of one life of a worker (common/shm/mailbox.h), kept for every broker of that life.
#pragma once

#include <utility>
#include <vector>

#include "common/base/result.h"
#include "common/shm/mailbox.h"

namespace facet {

class WorkerMailbox {
 public:
  static Result<WorkerMailbox> create();

  // {descriptor, number in the worker}; they stay open here.
  std::vector<std::pair<int, int>> worker_fds() const;
  // Memory and doorbell for a broker, as kWorkerStarted takes them along. None: there is no
  // descriptor left for them.
  std::vector<UniqueFd> broker_fds() const;

  WorkerMailbox() = default;

 private:
  MailboxFds fds_;
};

}  // namespace facet
