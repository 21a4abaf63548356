// What the broker says to one life of a worker: a stream of messages in shared memory, and an
// eventfd that wakes the worker. One writer and one reader, no lock; a message costs the writer two
// stores and, if the reader rests, one system call.
//
// The object outlives the writer. Each part of a message bears its writer's epoch and counts only
// once `tail` has passed it: what a writer that was killed had begun is never seen, and what it had
// finished is dropped by a reader that follows the next one. Neither side believes the other: a
// position or length that cannot be is kCorrupt.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/base/unique_fd.h"
#include "common/shm/shared_region.h"

namespace facet {

// Bytes on their way: some hundred dispatches of a long chat. What finds no room waits with the
// writer, so a longer message goes through in parts. Small, so that it stays in the caches.
inline constexpr std::uint64_t kMailboxBytes = 256 << 10;
// Messages that wait with the writer: a fuse far above one for each step and the credits.
inline constexpr std::size_t kMaxMailWaiting = 1000;
// A message that waits is begun only when so much of it, or all, has room.
inline constexpr std::uint64_t kMinMailPart = 4096;

struct MailboxHeader {
  static constexpr std::uint32_t kMagic = 0x464d4231;  // "FMB1"
  std::atomic<std::uint32_t> magic{0};
  std::uint32_t reserved = 0;
  // Bytes ever written and read, by their one writer each. The difference is on its way.
  alignas(64) std::atomic<std::uint64_t> tail{0};  // the broker's
  alignas(64) std::atomic<std::uint64_t> head{0};  // the worker's
  std::atomic<std::uint32_t> is_resting{0};        // the worker's: wants the doorbell
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

// A part of a message, followed by its bytes and filled up to a multiple of its own size, so that
// it never lies across the end of the memory. The bytes after it may.
struct MailPart {
  std::uint64_t epoch = 0;
  std::uint32_t bytes = 0;
  std::uint32_t rest = 0;  // bytes of the message in the parts after this one
};
static_assert(sizeof(MailPart) == 16);

inline constexpr std::uint64_t kMailboxDataOffset = 4096;
inline constexpr std::uint64_t kMailboxObjectBytes = kMailboxDataOffset + kMailboxBytes;

// The object and the doorbell (an eventfd), as they are handed over.
struct MailboxFds {
  UniqueFd memory;
  UniqueFd doorbell;
};
// Creates and formats. kExhausted: no memory for it; kIo.
Result<MailboxFds> create_mailbox();

class MailboxWriter {
 public:
  // Goes on where the writer before it stopped, which must be dead. kCorrupt: it is no mailbox.
  static Result<MailboxWriter> attach(MailboxFds fds, std::uint64_t epoch);

  // In order, now or as soon as there is room. kExhausted: more than kMaxMailWaiting wait.
  // kCorrupt: what the reader says it has read cannot be.
  Status send(std::string_view message);
  // Tries again with what waits.
  Status flush();
  bool has_waiting() const { return !waiting_.empty(); }

 private:
  MailboxWriter(MappedRegion region, UniqueFd doorbell, std::uint64_t epoch);
  // As much of `message` as there is room for; returns how much that is.
  Result<std::size_t> write(std::string_view message);
  void put(std::uint64_t at, const void* bytes, std::size_t count);

  MappedRegion region_;
  UniqueFd doorbell_;
  std::uint64_t epoch_;
  MailboxHeader* header_;
  std::byte* data_;
  std::uint64_t tail_;
  std::deque<std::string> waiting_;
  std::size_t num_written_ = 0;  // bytes of the first one that waits
};

class MailboxReader {
 public:
  // Not owned: `memory` may be closed afterwards, `doorbell` must stay open. kCorrupt: it is no
  // mailbox.
  static Result<MailboxReader> attach(int memory, int doorbell);

  // The next whole message of `epoch`, until the next call; never waits. Those of other epochs are
  // dropped.
  // kCorrupt: what lies there cannot be; kTooLarge: a message of more than `max_bytes`.
  Result<std::optional<std::string_view>> receive(std::uint64_t epoch, std::size_t max_bytes);

  // Before poll() on doorbell(): whether to rest at all, which is not so when something lies here.
  // The doorbell, which wakes at once when it rang before, is silenced here.
  bool begin_rest();
  void end_rest();  // from now on nobody needs to ring
  int doorbell() const { return doorbell_; }

 private:
  MailboxReader(MappedRegion region, int doorbell);
  void get(std::uint64_t at, void* bytes, std::size_t count) const;

  MappedRegion region_;
  int doorbell_;
  MailboxHeader* header_;
  const std::byte* data_;
  std::uint64_t head_ = 0;
  std::string partial_;  // of a message whose other parts are to come
  std::uint64_t partial_epoch_ = 0;
  std::uint32_t partial_rest_ = 0;  // 0: none
  bool is_partial_kept_ = false;    // not of another epoch
};

}  // namespace facet
