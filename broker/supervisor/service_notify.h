// systemd's notification protocol: datagrams to $NOTIFY_SOCKET. Does nothing without one.
#pragma once

#include <string>

#include "common/base/clock.h"
#include "common/base/unique_fd.h"

namespace facet {

class ServiceNotify {
 public:
  // Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, and takes them out of the environment, so
  // that no child speaks for us.
  ServiceNotify();

  void send(const std::string& text);  // "READY=1", "STATUS=...", lines joined by \n
  // 0: systemd does not watch us; else how often WATCHDOG=1 is due (half its limit).
  Nanos watchdog_interval() const { return watchdog_interval_; }

 private:
  std::string path_;  // a leading '@' means the abstract name space
  UniqueFd socket_;
  Nanos watchdog_interval_ = 0;
};

}  // namespace facet
