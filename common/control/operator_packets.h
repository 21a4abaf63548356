// Packets between `facet` and the supervisor's control socket: fixed-size structs over
// SOCK_SEQPACKET. One request for each connection; then progress lines, and one last packet.
// The kernel says who is at the other end (SO_PEERCRED): root and the daemon's own user may ask.
#pragma once

#include <cstdint>
#include <type_traits>

namespace facet {

inline constexpr const char* kOperatorSocketName = "control.sock";  // in the runtime folder

enum class OperatorKind : std::uint32_t {
  kRestartRolling = 1,  // every worker, one after the other, then broker and decoder
  kRestartWorker = 2,   // `worker`
  kDrain = 3,
  kCancelDrain = 4,
  kReload = 5,
};

// What `facet` ends with where only root and the daemon's user may ask.
inline constexpr std::int32_t kOperatorNotPermitted = 4;

struct OperatorRequest {
  static constexpr std::uint32_t kMagic = 0x464f5031;  // "FOP1": grows with every change
  std::uint32_t magic = kMagic;
  OperatorKind kind{};
  std::uint32_t worker = 0;
  std::uint32_t has_bound = 0;  // 0: the configured bound
  std::uint64_t bound_ms = 0;   // of each worker's drain; of the daemon's
};
static_assert(std::is_trivially_copyable_v<OperatorRequest>);
static_assert(sizeof(OperatorRequest) == 24);

struct OperatorReply {
  std::uint32_t magic = OperatorRequest::kMagic;
  std::uint32_t is_last = 0;
  std::int32_t exit_code = 0;  // is_last: what `facet` ends with
  char text[500] = {};         // UTF-8, NUL-terminated; may be empty
};
static_assert(std::is_trivially_copyable_v<OperatorReply>);
static_assert(sizeof(OperatorReply) == 512);

}  // namespace facet
