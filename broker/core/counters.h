// Counters of one life of the broker. They only grow.
#pragma once

#include <array>
#include <cstdint>

namespace facet {

struct CoreCounters {
  std::uint64_t events = 0;
  std::uint64_t accepted = 0;
  std::uint64_t attached = 0;               // a known request was asked for again
  std::array<std::uint64_t, 16> refused{};  // by Code
  std::array<std::uint64_t, 8> done{};      // by FinishReason
  std::array<std::uint64_t, 16> failed{};   // done with kError, by Code
  std::uint64_t recovered = 0;              // unfinished requests taken over from a former broker
  std::uint64_t dispatches = 0;
  std::uint64_t retried = 0;  // dispatches beyond a request's first
  std::uint64_t preempted = 0;
  std::uint64_t tokens = 0;
  std::uint64_t images_decoded = 0;
  std::uint64_t decode_retries = 0;
  std::uint64_t stale_dropped = 0;  // messages of an older incarnation or attempt
  std::uint64_t duplicate_tokens = 0;
  std::uint64_t protocol_kills = 0;  // workers ended because they broke the protocol
  std::uint64_t quarantined = 0;
  std::uint64_t uploads_expired = 0;
  std::uint64_t client_blocked = 0;
};

}  // namespace facet
