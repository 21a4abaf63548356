// How a worker rests.
#pragma once

#include "common/base/clock.h"
#include "common/shm/mailbox.h"
#include "worker/service/broker_link.h"

namespace facet {

// Returns when there is mail, when `link` (null: none) had no room and has it again, when
// `lifeline_fd` is at its end, or when `timeout` has passed.
void wait_for_mail(MailboxReader& mailbox, BrokerLink* link, int lifeline_fd, Nanos timeout);

}  // namespace facet
