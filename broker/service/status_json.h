// The text behind `facet status`: one JSON object, described in README.md beside this file.
#pragma once

#include <cstdint>
#include <string>

#include "broker/core/core_status.h"
#include "broker/service/client_port.h"
#include "broker/service/fd_port.h"

namespace facet {

// Constant over the broker's life.
struct ServiceFacts {
  std::string version;
  std::string socket;       // of the clients
  std::string fd_socket;    // of the same, for images as descriptors; may be none
  std::uint32_t pid = 0;
  Nanos started = 0;        // CLOCK_MONOTONIC
};

struct ServiceStatus {
  int connections = 0;
  std::size_t fd_connections = 0;
  FdPort::Counters fds;
  std::uint64_t malformed_from_workers = 0;
  std::uint32_t config_generation = 1;  // grows with every change while facetd runs
  bool idle = false;
  std::string conservation;  // empty, or the first discrepancy by name
};

std::string status_json(const CoreStatus& core, const ServiceFacts& facts,
                        const ClientPort::Counters& clients, const ServiceStatus& service);

}  // namespace facet
