// Packets between supervisor and broker: fixed-size structs over an inherited SOCK_SEQPACKET pair.
// The supervisor parses nothing of variable length.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace facet {

enum class ControlKind : std::uint32_t {
  // supervisor -> broker
  // worker, incarnation, pid; value 1: may hold a former broker's requests. Ancillary data: its
  // mailbox and doorbell (common/shm/mailbox.h), which outlive the broker.
  kWorkerStarted = 1,
  kWorkerDead = 2,      // seen dead or hung: nothing of this incarnation is accepted from now on
  kWorkerReaped = 3,    // its memory is gone: what it held may be reused
  kDecoderStarted = 4,  // pid; ancillary data: the broker's end of the decoder's job socket
  kDecoderReaped = 5,   // the decoder and every child of it are gone
  kDrain = 6,           // accept nothing new, finish what is there, then exit 0
  kWorkerDisabled =
      7,  // it will not be started again (bad model or configuration): value = exit code
  // Ends what every broker is told first: the workers that live, then the last deaths. Now it may
  // rebuild itself. A kWorkerDead before it may be of one that is reaped already.
  kTakeOver = 8,
  kDrainWorker = 9,  // worker, incarnation: gets nothing new; told to end once it holds nothing
  kUndrain = 10,     // kDrain is taken back
  kConfig = 11,      // the configuration file of the children is new; value: its generation
  kRetire = 12,      // leave now: a successor takes over
  // broker -> supervisor
  kBrokerReady = 32,         // sockets are served; incarnation = its epoch
  kKillWorker = 33,          // worker, incarnation: it broke the protocol; SIGKILL and restart
  kWorkerFinishedStep = 34,  // worker, incarnation: its first finished step; resets the back-off
  kKillDecoder = 36,         // a job is overdue: it hangs or stands stopped; SIGKILL and restart
  kStatus = 35,  // value: requests not yet terminal (for drain and for systemd's status line)
};

struct ControlPacket {
  ControlKind kind{};
  std::uint32_t worker = 0;
  std::uint64_t incarnation = 0;
  std::uint32_t pid = 0;
  std::uint32_t own_fault = 0;  // kWorkerDead: 1 = the process's own doing, 0 = killed from outside
  std::int32_t exit_code = 0;   // kWorkerDead, kWorkerReaped: exit status, or minus the signal
  std::uint32_t value = 0;
};
static_assert(std::is_trivially_copyable_v<ControlPacket>);
static_assert(sizeof(ControlPacket) == 32);
// Descriptors that go along with one.
inline constexpr std::size_t kMaxPacketFds = 2;

// Jobs between broker and decoder, over a second SOCK_SEQPACKET pair.
struct DecodeJob {
  std::uint64_t job = 0;             // names the job; the answer repeats it
  std::uint64_t encoded_offset = 0;  // into the ring object, page multiple
  std::uint64_t encoded_bytes = 0;
  std::uint64_t pixels_offset =
      0;  // into the ring object, page multiple; the child maps only this run writable
  std::uint64_t pixels_bytes = 0;  // 3 * width * height
  std::uint32_t width = 0;         // after EXIF orientation
  std::uint32_t height = 0;
  std::uint32_t format = 0;  // ImageFormat
  std::uint32_t reserved = 0;
};
static_assert(std::is_trivially_copyable_v<DecodeJob>);

enum class DecodeOutcome : std::uint32_t {
  kOk = 0,
  kBadImage = 1,  // message says what is wrong with it: terminal for the request
  kChildFault =
      2,  // the child ended by its own fault (crash, limit, seccomp): counts against the image
  kChildKilled = 3,  // the child was killed from outside: try again
};

struct DecodeReply {
  std::uint64_t job = 0;
  DecodeOutcome outcome = DecodeOutcome::kOk;
  std::uint32_t reserved = 0;
  char message[240] = {};  // UTF-8, NUL-terminated
};
static_assert(std::is_trivially_copyable_v<DecodeReply>);

}  // namespace facet
