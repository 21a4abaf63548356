// What the supervisor tells every broker before all else (common/control/packets.h: kTakeOver).
#pragma once

#include "broker/core/events.h"
#include "broker/service/control_channel.h"

namespace facet {

// Waits for all of it; it lies in the socket before the broker runs. kClosed: the supervisor is
// gone. kCorrupt: a packet that does not belong there.
Result<Takeover> receive_takeover(ControlChannel& control);

}  // namespace facet
