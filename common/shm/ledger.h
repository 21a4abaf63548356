// The request ledger: what must be known after the broker's death. One shared-memory object, held
// by the supervisor, written by the broker alone, no locks.
//
//   header | record table (fixed size) | arena of 4 KiB pages
//   a record's run in the arena: body | images | logprobs | token ids | text ends | text | error
//   text
//
// The body (the encoded generate request) and the images are immutable. The log is four columns:
// logprobs of token i (a fixed number, 0 unless the request asks), id of token i, length of the
// text up to and including token i, the text bytes. ONE atomic count commits all four. Space for
// max_tokens is reserved at publication, so appending never allocates. Scanning trusts nothing: a
// damaged record is skipped and counted, a damaged header is an Error.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/clock.h"
#include "common/base/request_id.h"
#include "common/base/result.h"
#include "common/protocol/messages.h"
#include "common/shm/page_allocator.h"

namespace facet {

inline constexpr std::uint64_t kLedgerPageBytes = 4 << 10;
inline constexpr std::uint32_t kLedgerMaxErrorBytes = 1024;

struct LedgerHeader;  // ledger_layout.h
struct LedgerRecord;

enum class RecordState : std::uint32_t { kFree = 0, kWriting = 1, kLive = 2, kTerminal = 3 };

// An encoded image of a request: its slot in the ring's ingest arena, and what its header says.
struct LedgerImage {
  std::uint32_t slot = 0;
  std::uint32_t format = 0;  // ImageFormat of the decoder
  std::uint64_t generation = 0;
  std::uint64_t bytes = 0;
  std::uint32_t width = 0;  // after EXIF orientation
  std::uint32_t height = 0;
  std::uint64_t content_hash_high = 0;  // XXH3-128 of the encoded bytes
  std::uint64_t content_hash_low = 0;
};

struct RecordSpec {
  RequestId id;
  std::string_view body;
  std::uint64_t body_hash_high = 0;
  std::uint64_t body_hash_low = 0;
  Nanos accepted = 0;  // CLOCK_MONOTONIC
  Nanos deadline = 0;
  std::span<const LedgerImage> images;
  std::uint32_t max_tokens = 0;
  std::uint32_t text_capacity = 0;  // bytes, the held-back tail included
  std::uint32_t logprobs_per_token = 0;
  std::uint32_t user = 0;  // whose it is: a user id
};

// How a request ended; the numbers of reason and code are those of the protocol.
struct TerminalRecord {
  std::uint8_t reason = 0;  // FinishReason
  std::uint16_t code = 0;   // Code
  std::uint32_t prompt_tokens = 0;
  std::uint32_t image_tokens = 0;
  std::uint32_t cached_tokens = 0;
  Nanos finished = 0;
  Nanos told = 0;     // when a client was sent the end, rounded down to ms; 0: none was. Read only
  std::string tail;   // text after that of the last token
  std::string error;  // at most kLedgerMaxErrorBytes
};

// Changes during a request's life, each written on its own.
struct RecordProgress {
  std::uint32_t attempts = 0;
  std::uint32_t strikes = 0;         // own-fault deaths of workers that held it
  std::uint32_t broker_strikes = 0;  // own-fault deaths of brokers that were handling it
  std::uint32_t worker = 0;          // where it is, if `incarnation` is not 0
  std::uint32_t is_solo = 0;         // 1: it runs alone there, as a suspect
  std::uint32_t reserved = 0;
  std::uint64_t incarnation = 0;  // of that worker; 0: at none
  Nanos dispatched = 0;           // of the last attempt
  Nanos first_token = 0;
};

// A record as it stands in memory; spans point into the object.
struct RecordView {
  std::uint32_t index = 0;
  RecordState state = RecordState::kFree;
  RequestId id;
  std::string_view body;
  std::uint64_t body_hash_high = 0;
  std::uint64_t body_hash_low = 0;
  Nanos accepted = 0;
  Nanos deadline = 0;
  std::span<const LedgerImage> images;
  std::uint32_t max_tokens = 0;
  std::uint32_t text_capacity = 0;
  std::uint32_t logprobs_per_token = 0;
  std::uint32_t user = 0;
  RecordProgress progress;
  std::span<const std::int32_t> token_ids;   // committed ones
  std::span<const std::uint32_t> text_ends;  // same length
  std::span<const TokenLogprob> logprobs;    // logprobs_per_token of each
  std::string_view text;                     // of the committed tokens
  TerminalRecord terminal;                   // when state is kTerminal
};

struct LedgerScan {
  std::vector<RecordView> records;    // kLive and kTerminal, valid ones
  std::uint32_t num_damaged = 0;      // skipped
  std::uint32_t num_unpublished = 0;  // kWriting: never accepted
  // Index of the record that the former broker worked on when it died by its own fault.
  std::optional<std::uint32_t> handling;
  std::uint64_t epoch = 0;
};

struct LedgerUse {
  std::uint32_t max_records = 0, records = 0;
  std::uint32_t pages = 0, used = 0, high_mark = 0, largest_free_run = 0;
};

// Writes the header and an empty table into zeroed memory. kInvalidArgument when it is too small.
Status format_ledger(std::span<std::byte> object, std::uint32_t max_records);

// Reads a ledger without changing it. Never crashes on garbage.
Result<LedgerScan> scan_ledger(std::span<const std::byte> object);

class LedgerWriter {
 public:
  // Scans, frees what is damaged or unpublished, leases what is left, bumps the epoch.
  // The scan's views stay valid until their record changes.
  static Result<LedgerWriter> attach(std::span<std::byte> object);
  const LedgerScan& scan() const { return scan_; }
  void drop_scan() { scan_ = {}; }
  std::uint64_t epoch() const { return epoch_; }  // one life of the broker, 1 is the first

  // kExhausted: no free record or run now. kTooLarge: more than a quarter of the arena.
  Result<std::uint32_t> publish(const RecordSpec& spec);
  // All or nothing; logprobs_per_token of each token come along. kTooLarge: more tokens or text, or
  // another number of logprobs, than reserved (the message has the numbers).
  Status append(std::uint32_t index, std::span<const std::int32_t> token_ids,
                std::span<const std::string> token_texts,
                std::span<const TokenLogprob> logprobs = {});
  void set_progress(std::uint32_t index, const RecordProgress& progress);
  // kLive -> kTerminal. The error is cut to kLedgerMaxErrorBytes. kTooLarge: the tail does not fit
  // (then nothing has changed).
  Status finish(std::uint32_t index, const TerminalRecord& terminal);
  // When a client was sent the end of a terminal record last; nullopt: it did not get it.
  void set_told(std::uint32_t index, std::optional<Nanos> when);
  void erase(std::uint32_t index);  // any -> kFree
  // Whoever was told an end up to then has had its time to ask for it again: from a broker that
  // lived and ran. A next broker's word, too: it cannot know otherwise how long nobody listened.
  void set_heard_before(Nanos when);
  Nanos heard_before() const;
  // Names the record being worked on, so that one that ends brokers is found; nullopt = none.
  void set_handling(std::optional<std::uint32_t> index);
  // For the handler of a fatal signal that is the broker's own fault: `word |= kHandlingFault`.
  // Without it the record in hand is not to blame: the broker was killed from outside.
  std::atomic<std::uint64_t>& handling_word();
  static constexpr std::uint64_t kHandlingFault = 1ull << 63;

  RecordView view(std::uint32_t index) const;  // of a record that is not free
  // The hot path of a cursor: committed tokens and text of [first, first + count).
  std::uint32_t num_tokens(std::uint32_t index) const;
  std::span<const std::int32_t> token_ids(std::uint32_t index) const;
  std::span<const TokenLogprob> logprobs_between(std::uint32_t index, std::uint32_t first,
                                                 std::uint32_t end) const;
  std::string_view text_between(std::uint32_t index, std::uint32_t first, std::uint32_t end) const;

  LedgerUse use() const;
  static std::uint64_t run_bytes(const RecordSpec& spec);
  static std::uint64_t run_bytes(const RecordView& view);
  Status check_conservation() const;  // pages leased = pages of records, table = free list

 private:
  explicit LedgerWriter(std::span<std::byte> object);
  LedgerRecord& record(std::uint32_t index) const;

  std::span<std::byte> object_;
  LedgerHeader* header_ = nullptr;
  std::uint64_t epoch_ = 0;
  PageAllocator pages_;
  std::vector<std::uint32_t> free_records_;
  LedgerScan scan_;
};

}  // namespace facet
