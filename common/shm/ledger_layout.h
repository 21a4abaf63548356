// The ledger's bytes. Only ledger_scan.cc and ledger_writer.cc include this.
#pragma once

#include <atomic>
#include <cstdint>

#include "common/base/request_id.h"
#include "common/shm/ledger.h"

namespace facet {

struct alignas(64) LedgerHeader {
  static constexpr std::uint32_t kVersion = 3;
  static constexpr std::uint64_t kMagic = 0x3152474c54434146;  // "FACTLGR1"
  std::atomic<std::uint64_t> magic;                            // written last
  std::uint32_t version;
  std::uint32_t max_records;
  std::uint64_t object_bytes;
  std::uint64_t arena_offset;
  std::uint32_t arena_pages;
  std::uint32_t reserved;
  std::atomic<std::uint64_t> epoch;
  std::atomic<std::uint64_t> handling;  // record index + 1, 0 = none; or'ed with kHandlingFault
  std::atomic<std::int64_t> heard_before;
};

struct alignas(64) LedgerRecord {
  std::atomic<std::uint32_t> state;  // RecordState; what makes the rest valid
  // Immutable once published; `seal` is the XXH3-64 of what lies between it and `state`.
  std::uint32_t first_page;
  std::uint32_t num_pages;
  std::uint32_t body_bytes;
  std::uint32_t num_images;
  std::uint32_t max_tokens;
  std::uint32_t text_capacity;
  std::uint32_t logprobs_per_token;
  RequestId id;
  std::uint64_t body_hash_high;
  std::uint64_t body_hash_low;
  std::int64_t accepted;
  std::int64_t deadline;
  std::uint32_t user;
  std::uint32_t reserved;
  std::uint64_t seal;
  // The log's one committed length, in tokens.
  std::atomic<std::uint64_t> committed;
  RecordProgress progress;
  // Valid in state kTerminal.
  std::uint32_t reason;
  std::uint32_t code;
  std::uint32_t prompt_tokens;
  std::uint32_t image_tokens;
  std::uint32_t cached_tokens;
  std::atomic<std::uint32_t> told_after_ms;  // since `finished`, plus 1; 0: not told
  std::int64_t finished;
  std::uint32_t tail_bytes;
  std::uint32_t error_bytes;
};

// Where the columns of a record lie, from the start of its run.
struct RunLayout {
  std::uint64_t images = 0, logprobs = 0, token_ids = 0, text_ends = 0, text = 0, error = 0,
                total = 0;
  static RunLayout of(std::uint64_t body_bytes, std::uint64_t num_images, std::uint64_t max_tokens,
                      std::uint64_t text_capacity, std::uint64_t logprobs_per_token);
  static RunLayout of(const LedgerRecord& record);
};

std::uint64_t record_seal(const LedgerRecord& record);
std::uint64_t ledger_arena_offset(std::uint32_t max_records);
Status check_ledger_header(std::span<const std::byte> object);
// The view of a record whose numbers are known to be sound.
RecordView view_of_record(std::span<const std::byte> object, std::uint32_t index);

inline const LedgerHeader& ledger_header(std::span<const std::byte> object) {
  return *reinterpret_cast<const LedgerHeader*>(object.data());
}
inline const LedgerRecord& ledger_record(std::span<const std::byte> object, std::uint32_t index) {
  return reinterpret_cast<const LedgerRecord*>(object.data() + sizeof(LedgerHeader))[index];
}
inline const std::byte* ledger_run(std::span<const std::byte> object, const LedgerRecord& record) {
  return object.data() + ledger_header(object).arena_offset +
         std::uint64_t{record.first_page} * kLedgerPageBytes;
}

}  // namespace facet
