// Rules that show in the ledger: looked at from outside the core.
#pragma once

#include <cstddef>
#include <optional>
#include <set>
#include <span>
#include <string>

#include "common/base/clock.h"
#include "common/base/request_id.h"
#include "common/control/packets.h"

namespace facet::sim {

class SimWatch {
 public:
  void new_broker(std::span<const std::byte> ledger);

  // A request whose images go to the decoder may not leave behind one that was accepted before it,
  // has the same priority and has never had pixels. What is broken, or nothing.
  std::optional<std::string> decode_job(std::span<const std::byte> ledger,
                                        std::span<const std::byte> ring, const DecodeJob& job);

 private:
  std::set<RequestId> decoded_;  // had pixels in this broker's life, or ran when it began
};

// Unfinished requests that were at a worker when it died by its own fault.
std::set<RequestId> suspects_in(std::span<const std::byte> ledger);

// After a step no unfinished request is past its deadline.
std::optional<std::string> overdue(std::span<const std::byte> ledger, Nanos now);

}  // namespace facet::sim
