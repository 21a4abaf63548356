#include "broker/supervisor/worker_mailbox.h"

#include <fcntl.h>

#include "common/control/fds.h"

namespace facet {

Result<WorkerMailbox> WorkerMailbox::create() {
  WorkerMailbox mailbox;
  mailbox.fds_ = FACET_TRY(create_mailbox());
  return mailbox;
}

std::vector<std::pair<int, int>> WorkerMailbox::worker_fds() const {
  return {{fds_.memory.get(), kWorkerMailboxFd}, {fds_.doorbell.get(), kWorkerDoorbellFd}};
}

std::vector<UniqueFd> WorkerMailbox::broker_fds() const {
  std::vector<UniqueFd> fds;
  for (const int fd : {fds_.memory.get(), fds_.doorbell.get()}) {
    fds.emplace_back(fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!fds.back()) return {};
  }
  return fds;
}

}  // namespace facet
