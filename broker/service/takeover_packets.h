// What the supervisor tells every broker before all else (common/control/packets.h: kTakeOver).
#pragma once

#include "broker/core/events.h"
#include "broker/service/control_channel.h"
#include "broker/service/worker_port.h"

namespace facet {

// Waits for all of it; it lies in the socket before the broker runs. The mailboxes of those that
// live go to `workers`. kClosed: the supervisor is gone. kCorrupt: a packet that does not belong
// there.
Result<Takeover> receive_takeover(ControlChannel& control, WorkerPort& workers);

}  // namespace facet
