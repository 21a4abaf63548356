#include "broker/service/takeover_packets.h"

#include <poll.h>

#include <string>
#include <utility>

namespace facet {

Result<Takeover> receive_takeover(ControlChannel& control, WorkerPort& workers) {
  Takeover takeover;
  while (true) {
    auto received = FACET_TRY(control.receive());
    if (!received) {
      pollfd polled{.fd = control.fd(), .events = POLLIN, .revents = 0};
      poll(&polled, 1, -1);
      continue;
    }
    const ControlPacket& packet = received->packet;
    switch (packet.kind) {
      case ControlKind::kWorkerStarted:
        workers.open(packet.worker, packet.incarnation,
                     {std::move(received->fds[0]), std::move(received->fds[1])});
        takeover.living.push_back(
            {packet.worker, packet.incarnation, packet.pid, packet.value != 0});
        break;
      case ControlKind::kWorkerDead:
        takeover.deaths.push_back(
            {packet.worker, packet.incarnation, packet.own_fault != 0, packet.exit_code});
        break;
      case ControlKind::kTakeOver:
        return takeover;
      default:
        return Error(Code::kCorrupt, "control packet " +
                                         std::to_string(static_cast<std::uint32_t>(packet.kind)) +
                                         " before the broker may take over");
    }
  }
}

}  // namespace facet
