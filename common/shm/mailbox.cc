#include "common/shm/mailbox.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "common/base/check.h"
#include "common/base/crash_point.h"

namespace facet {
namespace {

constexpr std::uint64_t kUnit = sizeof(MailPart);
static_assert(sizeof(MailboxHeader) <= kMailboxDataOffset);
static_assert(kMailboxBytes % kUnit == 0 && kMinMailPart + kUnit < kMailboxBytes);

// What a part of `bytes` takes, with its header.
std::uint64_t room_for(std::uint64_t bytes) {
  return kUnit + (bytes + kUnit - 1) / kUnit * kUnit;
}

Result<MailboxHeader*> header_of(MappedRegion& region) {
  const auto object = region.writable_bytes();
  if (object.size() < kMailboxObjectBytes) {
    return Error(Code::kCorrupt, "mailbox: " + std::to_string(object.size()) + " bytes, needs " +
                                     std::to_string(kMailboxObjectBytes));
  }
  auto* header = reinterpret_cast<MailboxHeader*>(object.data());
  if (header->magic.load(std::memory_order_acquire) != MailboxHeader::kMagic) {
    return Error(Code::kCorrupt, "mailbox: no magic number");
  }
  // Or a page would be looked up at its first use, when a worker waits for it.
  madvise(object.data(), kMailboxObjectBytes, MADV_POPULATE_WRITE);
  return header;
}

bool can_be(std::uint64_t head, std::uint64_t tail) {
  return tail - head <= kMailboxBytes && head % kUnit == 0 && tail % kUnit == 0;
}

Error corrupt_positions(std::uint64_t head, std::uint64_t tail) {
  return Error(Code::kCorrupt, "mailbox: read up to " + std::to_string(head) + ", written up to " +
                                   std::to_string(tail));
}

// Copies between the memory, which begins anew at its end, and `count` bytes elsewhere.
template <class Copy>
void in_two_pieces(std::uint64_t at, std::size_t count, Copy copy) {
  const std::size_t begin = at % kMailboxBytes;
  const std::size_t first = std::min<std::size_t>(count, kMailboxBytes - begin);
  copy(begin, std::size_t{0}, first);
  if (first < count) copy(std::size_t{0}, first, count - first);
}

}  // namespace

Result<MailboxFds> create_mailbox() {
  MailboxFds fds;
  fds.memory.reset(memfd_create("mailbox", MFD_CLOEXEC));
  if (!fds.memory) return errno_error("memfd_create of a mailbox", errno);
  if (const int error = posix_fallocate(fds.memory.get(), 0, kMailboxObjectBytes); error != 0) {
    return Error(Code::kExhausted,
                 "no room for a mailbox of " + std::to_string(kMailboxObjectBytes) + " bytes");
  }
  auto region = FACET_TRY(MappedRegion::map(fds.memory.get(), MapAccess::kReadWrite));
  auto* header = new (region.writable_bytes().data()) MailboxHeader{};
  header->magic.store(MailboxHeader::kMagic, std::memory_order_release);
  fds.doorbell.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!fds.doorbell) return errno_error("eventfd", errno);
  return fds;
}

MailboxWriter::MailboxWriter(MappedRegion region, UniqueFd doorbell, std::uint64_t epoch)
    : region_(std::move(region)),
      doorbell_(std::move(doorbell)),
      epoch_(epoch),
      header_(reinterpret_cast<MailboxHeader*>(region_.writable_bytes().data())),
      data_(region_.writable_bytes().data() + kMailboxDataOffset),
      tail_(header_->tail.load(std::memory_order_relaxed)) {}

Result<MailboxWriter> MailboxWriter::attach(MailboxFds fds, std::uint64_t epoch) {
  auto region = FACET_TRY(MappedRegion::map(fds.memory.get(), MapAccess::kReadWrite));
  const auto* header = FACET_TRY(header_of(region));
  const std::uint64_t head = header->head.load(std::memory_order_acquire);
  const std::uint64_t tail = header->tail.load(std::memory_order_relaxed);
  if (!can_be(head, tail)) return corrupt_positions(head, tail);
  return MailboxWriter(std::move(region), std::move(fds.doorbell), epoch);
}

void MailboxWriter::put(std::uint64_t at, const void* bytes, std::size_t count) {
  in_two_pieces(at, count, [&](std::size_t to, std::size_t from, std::size_t size) {
    std::memcpy(data_ + to, static_cast<const std::byte*>(bytes) + from, size);
  });
}

Result<std::size_t> MailboxWriter::write(std::string_view message) {
  const std::uint64_t head = header_->head.load(std::memory_order_acquire);
  if (!can_be(head, tail_)) return corrupt_positions(head, tail_);
  const std::uint64_t room = kMailboxBytes - (tail_ - head);
  if (room < room_for(std::min<std::uint64_t>(message.size(), kMinMailPart))) return 0;
  const std::size_t size = std::min<std::size_t>(message.size(), room - kUnit);
  const MailPart part{epoch_, static_cast<std::uint32_t>(size),
                      static_cast<std::uint32_t>(message.size() - size)};
  put(tail_, &part, kUnit);
  put(tail_ + kUnit, message.data(), size);
  FACET_CRASH_POINT("mailbox.written");
  tail_ += room_for(size);
  // Before the look at `is_resting`, as the reader looks at the tail after it has set that: one of
  // the two sees what the other did.
  header_->tail.store(tail_, std::memory_order_seq_cst);
  FACET_CRASH_POINT("mailbox.published");
  if (header_->is_resting.load(std::memory_order_seq_cst) != 0) {
    const std::uint64_t one = 1;  // a full counter rings, too
    [[maybe_unused]] const ssize_t rung = ::write(doorbell_.get(), &one, sizeof one);
  }
  return size;
}

Status MailboxWriter::send(std::string_view message) {
  FACET_CHECK(!message.empty() && message.size() <= UINT32_MAX);
  if (waiting_.empty()) {
    const std::size_t written = FACET_TRY(write(message));
    if (written == message.size()) return {};
    num_written_ = written;
  } else if (waiting_.size() >= kMaxMailWaiting) {
    return Error(Code::kExhausted,
                 "mailbox: " + std::to_string(kMaxMailWaiting) + " messages wait for room");
  }
  waiting_.emplace_back(message);
  return {};
}

Status MailboxWriter::flush() {
  while (!waiting_.empty()) {
    const std::string& message = waiting_.front();
    const std::size_t written = FACET_TRY(write(std::string_view(message).substr(num_written_)));
    num_written_ += written;
    if (num_written_ < message.size()) {
      if (written == 0) return {};
      continue;
    }
    waiting_.pop_front();
    num_written_ = 0;
  }
  return {};
}

MailboxReader::MailboxReader(MappedRegion region, int doorbell)
    : region_(std::move(region)),
      doorbell_(doorbell),
      header_(reinterpret_cast<MailboxHeader*>(region_.writable_bytes().data())),
      data_(region_.writable_bytes().data() + kMailboxDataOffset),
      head_(header_->head.load(std::memory_order_relaxed)) {}

Result<MailboxReader> MailboxReader::attach(int memory, int doorbell) {
  auto region = FACET_TRY(MappedRegion::map(memory, MapAccess::kReadWrite));
  FACET_TRY(header_of(region));
  return MailboxReader(std::move(region), doorbell);
}

void MailboxReader::get(std::uint64_t at, void* bytes, std::size_t count) const {
  in_two_pieces(at, count, [&](std::size_t from, std::size_t to, std::size_t size) {
    std::memcpy(static_cast<std::byte*>(bytes) + to, data_ + from, size);
  });
}

Result<std::optional<std::string_view>> MailboxReader::receive(std::uint64_t epoch,
                                                               std::size_t max_bytes) {
  const std::uint64_t tail = header_->tail.load(std::memory_order_acquire);
  if (!can_be(head_, tail)) return corrupt_positions(head_, tail);
  while (head_ != tail) {
    MailPart part;
    get(head_, &part, kUnit);
    if (room_for(part.bytes) > tail - head_) {
      return Error(Code::kCorrupt, "mailbox: a part of " + std::to_string(part.bytes) +
                                       " bytes, of which " + std::to_string(tail - head_) +
                                       " with its header are there");
    }
    if (part.epoch != partial_epoch_) partial_rest_ = 0;  // its writer died before the end of it
    const std::uint64_t whole = std::uint64_t{part.bytes} + part.rest;
    if (partial_rest_ == 0) {
      partial_.clear();
      partial_epoch_ = part.epoch;
      is_partial_kept_ = part.epoch == epoch;
    } else if (whole != partial_rest_) {
      return Error(Code::kCorrupt, "mailbox: " + std::to_string(whole) +
                                       " bytes of a message, of which " +
                                       std::to_string(partial_rest_) + " are to come");
    }
    is_partial_kept_ = is_partial_kept_ && part.epoch == epoch;
    if (is_partial_kept_) {
      const std::size_t before = partial_.size();
      if (before + whole > max_bytes) {
        return Error(Code::kTooLarge, "mailbox: a message of " + std::to_string(before + whole) +
                                          " bytes, at most " + std::to_string(max_bytes));
      }
      partial_.resize(before + part.bytes);
      get(head_ + kUnit, partial_.data() + before, part.bytes);
    }
    partial_rest_ = part.rest;
    head_ += room_for(part.bytes);
    header_->head.store(head_, std::memory_order_release);
    if (part.rest == 0 && is_partial_kept_) return std::string_view(partial_);
  }
  return std::optional<std::string_view>();
}

bool MailboxReader::begin_rest() {
  std::uint64_t rings = 0;
  [[maybe_unused]] const ssize_t taken = ::read(doorbell_, &rings, sizeof rings);
  header_->is_resting.store(1, std::memory_order_seq_cst);
  if (header_->tail.load(std::memory_order_seq_cst) == head_) return true;
  header_->is_resting.store(0, std::memory_order_relaxed);
  return false;
}

void MailboxReader::end_rest() {
  header_->is_resting.store(0, std::memory_order_relaxed);
}

}  // namespace facet
