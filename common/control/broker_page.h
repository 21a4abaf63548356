// One page that the supervisor (its only writer) shares with every worker (read only): which life
// of the broker serves. A worker that sees the epoch change opens a new connection and says what it
// holds; without a broker it keeps what it computes.
#pragma once

#include <atomic>
#include <cstdint>

namespace facet {

struct BrokerPage {
  static constexpr std::uint32_t kMagic = 0x46424b31;  // "FBK1"
  std::atomic<std::uint32_t> magic{0};
  std::uint32_t reserved = 0;
  // As the broker said with kBrokerReady; 0: none serves. The supervisor takes it back before it
  // looks which workers may hold requests, and a worker looks at it before it takes one (both
  // sequentially consistent): so none takes one unseen.
  std::atomic<std::uint64_t> epoch{0};
};
static_assert(sizeof(BrokerPage) <= 4096);

}  // namespace facet
