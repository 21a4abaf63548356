#include "worker/service/mail_wait.h"

#include <poll.h>

#include <array>

namespace facet {

void wait_for_mail(MailboxReader& mailbox, BrokerLink* link, int lifeline_fd, Nanos timeout) {
  if (!mailbox.begin_rest()) return;  // something was said since the last look
  const std::array fds = {mailbox.doorbell(), lifeline_fd};
  if (link != nullptr && !link->has_room()) {
    link->wait(timeout, fds);
  } else {
    std::array<pollfd, fds.size()> polled{};
    for (std::size_t i = 0; i < fds.size(); ++i) polled[i] = {fds[i], POLLIN, 0};
    poll(polled.data(), polled.size(), static_cast<int>(timeout / kMillisecond));
  }
  mailbox.end_rest();
}

}  // namespace facet
