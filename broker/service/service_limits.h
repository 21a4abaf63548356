// Bounds of the broker's service, each with its reason, and the core's from the configuration.
#pragma once

#include <cstdint>

#include "broker/core/core_limits.h"
#include "broker/service/client_port.h"
#include "broker/service/fd_port.h"
#include "common/config/config.h"
#include "common/protocol/limits.h"

namespace facet {

// Frame 0 and its envelope. A chunk is smaller.
inline constexpr std::int64_t kMaxClientFrameBytes = kMaxMapBytes + 1024;
// A worker's step: every lane's tokens with their texts; far below this.
inline constexpr std::int64_t kMaxWorkerFrameBytes = 16 << 20;
// Messages of one client that wait in ZeroMQ: bounds its memory at 4 chunks.
inline constexpr int kClientReceiveMark = 4;
// Messages to one client that wait in ZeroMQ; beyond them its cursor waits in the ledger and is
// tried again after CoreLimits::blocked_retry. Room for a step of every lane of some workers: with
// 16 a client with many streams was always full. With kMaxTokensBytes: 2 MiB of a deaf client.
inline constexpr int kClientSendMark = 128;
inline constexpr std::uint32_t kMaxTokensBytes = 16 << 10;  // of one Tokens message
// Messages of one worker that wait in ZeroMQ. A fuse only: a worker sends one for each step.
inline constexpr int kWorkerMark = 1000;
// When to look again for room in the mailbox of a worker that is behind.
inline constexpr Nanos kMailboxRetry = kMillisecond;
// Clients on the socket that the table has no room for, and are told so, before all are cut.
inline constexpr int kMaxUnknownConnections = 4096;
// Bytes copied out of memfds before the sockets have their turn: about a millisecond, less than the
// chunks of one burst take.
inline constexpr std::size_t kFdBytesPerTurn = 4 << 20;
// A larger image is not told `taken`: until that copy is made (2 ms) nobody's messages are read.
inline constexpr std::uint64_t kMaxTakenBytes = 16 << 20;
// At once: stays in the second-level cache between the copy by the kernel and that into the ring.
// Measured, both together take as long as one by the kernel straight into the ring, on a host whose
// caches others use too up to a quarter longer.
inline constexpr std::size_t kFdPieceBytes = 256 << 10;
// Memfds that stay mapped for a client: as many as the library has under way.
inline constexpr std::size_t kMaxFdMappings = 4;
// Bytes of one mapping, and of all that are kept: four of the largest image.
inline constexpr std::uint64_t kMaxFdMapped = 256 << 20;
// Messages taken from one socket before the others have their turn.
inline constexpr int kWorkerBurst = 64;
inline constexpr int kClientBurst = 32;
// Time for last answers to leave when the broker has been drained.
inline constexpr int kDrainLingerMs = 2000;
// Unheard of for this long, a client may lose its place in a full table: a waiting client gets a
// keepalive each second and comes back after three.
inline constexpr Nanos kClientStaleAfter = 3 * kSecond;
// How long the supervisor may take to say what became of a worker that cannot be told anything. A
// large process is reaped in half a second; a worker that lives on deaf is replaced.
inline constexpr Nanos kVerdictGrace = 3 * kSecond;
// Beyond the wall-clock limit of a decoder child, which is four times its CPU limit: for a decoder
// that waits for a core.
inline constexpr Nanos kDecodeGrace = 5 * kSecond;
// How often the supervisor is told that the loop turns.
inline constexpr Nanos kStatusInterval = kSecond / 2;
// A gap between two turns of the loop beyond which this process was not running.
inline constexpr Nanos kPauseOfOurOwn = 2 * kSecond;
// Where a client should come back that found the table full.
inline constexpr std::uint32_t kTableFullRetryMs = 1000;

ClientPort::Limits client_limits(const Config& config);
FdPort::Limits fd_limits();
CoreLimits core_limits(const Config& config, std::uint32_t num_workers);

}  // namespace facet
