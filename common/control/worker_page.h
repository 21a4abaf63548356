// One page shared between a worker (writer) and the supervisor (reader, RO). Own memfd per
// incarnation. Written by the engine loop itself, never by a helper thread: progress must stop
// exactly when the engine is stuck.
#pragma once

#include <atomic>
#include <cstdint>

namespace facet {

enum class WorkerPhase : std::uint32_t {
  kStarting = 0,
  kLoad = 1,      // weights
  kIdle = 2,      // waiting for work; ticks at least every second
  kEncode = 3,    // vision tower
  kPrefill = 4,   // ticks per layer
  kDecode = 5,
  kDraining = 6,
};

struct WorkerPage {
  static constexpr std::uint32_t kMagic = 0x46574b31;  // "FWK1"
  std::atomic<std::uint32_t> magic{0};
  std::atomic<std::uint32_t> phase{0};       // WorkerPhase
  std::atomic<std::uint64_t> incarnation{0};
  std::atomic<std::uint64_t> progress{0};    // grows with every tick
  std::atomic<std::uint64_t> steps{0};       // engine steps finished
  std::atomic<std::uint32_t> ready{0};       // 1 once the model is loaded and hello was sent
  std::atomic<std::uint32_t> settled{0};     // 1 once no further memory will be taken
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

}  // namespace facet
