// One page shared between a worker (writer) and the supervisor (reader, RO). Own memfd per
// incarnation. Written by the engine loop itself, never by a helper thread: progress must stop
// exactly when the engine is stuck. Only the last words come from a fatal-signal handler.
// The reader believes nothing: every value is checked against its range.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
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
  kWarmUp = 7,    // between the weights and the first hello: graphs, kernels
};

// The requests that the engine holds. Two sides: the writer fills the one that is not shown.
struct BlackBox {
  static constexpr std::size_t kMaxRequests = 64;  // of more, the first ones found
  struct Side {
    std::atomic<std::uint32_t> num_requests{0};
    std::array<std::array<std::atomic<std::uint64_t>, 2>, kMaxRequests> ids{};  // RequestId's bytes
  };
  std::atomic<std::uint32_t> shown{0};  // 0 or 1
  std::array<Side, 2> sides;
};

// What the handler of a fatal signal leaves behind before the process ends by that signal.
struct LastWords {
  std::atomic<std::uint32_t> is_taken{0};   // by the first thread that dies
  std::atomic<std::int32_t> signal_code{0};  // si_code; > 0: a fault, else somebody sent it
  std::atomic<std::uint32_t> sender_pid{0};  // of a signal that was sent
  std::atomic<std::uint32_t> phase{0};       // WorkerPhase
  std::atomic<std::uint32_t> signal{0};      // written last; 0: nothing was said
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
  LastWords last_words;
  BlackBox black_box;
};
static_assert(sizeof(WorkerPage) <= 4096);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

}  // namespace facet
