// Reading a ledger that nobody vouches for.
#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <unordered_set>
#include <utility>

#include "common/protocol/limits.h"
#include "common/shm/ledger_layout.h"

namespace facet {
namespace {

std::uint64_t align8(std::uint64_t bytes) {
  return (bytes + 7) & ~std::uint64_t{7};
}

// Numbers, bounds and columns of one published record.
bool record_is_sound(std::span<const std::byte> object, std::uint32_t index) {
  const LedgerHeader& header = ledger_header(object);
  const LedgerRecord& record = ledger_record(object, index);
  const auto state = static_cast<RecordState>(record.state.load(std::memory_order_acquire));
  if (record.seal != record_seal(record)) return false;
  if (record.num_pages == 0 || record.first_page >= header.arena_pages ||
      record.num_pages > header.arena_pages - record.first_page) {
    return false;
  }
  if (record.logprobs_per_token > 1 + kMaxLogprobs) return false;
  const RunLayout layout = RunLayout::of(record);
  if (layout.total > std::uint64_t{record.num_pages} * kLedgerPageBytes) return false;
  const std::uint64_t committed = record.committed.load(std::memory_order_acquire);
  if (committed > record.max_tokens) return false;
  const auto* ends =
      reinterpret_cast<const std::uint32_t*>(ledger_run(object, record) + layout.text_ends);
  std::uint32_t last = 0;
  for (std::uint64_t i = 0; i < committed; ++i) {
    if (ends[i] < last) return false;
    last = ends[i];
  }
  if (last > record.text_capacity) return false;
  if (state == RecordState::kLive) return true;
  return record.tail_bytes <= record.text_capacity - last &&
         record.error_bytes <= kLedgerMaxErrorBytes && record.reason >= 1 && record.reason <= 4 &&
         record.code <= UINT16_MAX;
}

}  // namespace

RunLayout RunLayout::of(std::uint64_t body_bytes, std::uint64_t num_images,
                        std::uint64_t max_tokens, std::uint64_t text_capacity,
                        std::uint64_t logprobs_per_token) {
  RunLayout layout;
  layout.images = align8(body_bytes);
  layout.logprobs = layout.images + num_images * sizeof(LedgerImage);
  layout.token_ids = layout.logprobs + max_tokens * logprobs_per_token * sizeof(TokenLogprob);
  layout.text_ends = layout.token_ids + max_tokens * sizeof(std::int32_t);
  layout.text = layout.text_ends + max_tokens * sizeof(std::uint32_t);
  layout.error = layout.text + text_capacity;
  layout.total = layout.error + kLedgerMaxErrorBytes;
  return layout;
}

RunLayout RunLayout::of(const LedgerRecord& record) {
  return of(record.body_bytes, record.num_images, record.max_tokens, record.text_capacity,
            record.logprobs_per_token);
}

std::uint64_t record_seal(const LedgerRecord& record) {
  const auto* begin = reinterpret_cast<const std::byte*>(&record.first_page);
  const auto* end = reinterpret_cast<const std::byte*>(&record.seal);
  return XXH3_64bits(begin, static_cast<std::size_t>(end - begin));
}

std::uint64_t ledger_arena_offset(std::uint32_t max_records) {
  const std::uint64_t table =
      sizeof(LedgerHeader) + std::uint64_t{max_records} * sizeof(LedgerRecord);
  return (table + kLedgerPageBytes - 1) / kLedgerPageBytes * kLedgerPageBytes;
}

Status check_ledger_header(std::span<const std::byte> object) {
  if (object.size() < sizeof(LedgerHeader)) return Error(Code::kCorrupt, "ledger: too small");
  if (reinterpret_cast<std::uintptr_t>(object.data()) % alignof(LedgerHeader) != 0) {
    return Error(Code::kInvalidArgument, "ledger: the mapping is not aligned");
  }
  const LedgerHeader& header = ledger_header(object);
  if (header.magic.load(std::memory_order_acquire) != LedgerHeader::kMagic) {
    return Error(Code::kCorrupt, "ledger: no magic number; not formatted, or not a ledger");
  }
  if (header.version != LedgerHeader::kVersion) {
    return Error(Code::kCorrupt, "ledger: version " + std::to_string(header.version));
  }
  const std::uint64_t arena_offset = ledger_arena_offset(header.max_records);
  if (header.max_records == 0 || header.object_bytes > object.size() ||
      header.arena_offset != arena_offset || header.object_bytes < arena_offset ||
      header.arena_pages == 0 ||
      header.arena_pages > (header.object_bytes - arena_offset) / kLedgerPageBytes) {
    return Error(Code::kCorrupt, "ledger: the header's numbers do not fit together");
  }
  return {};
}

RecordView view_of_record(std::span<const std::byte> object, std::uint32_t index) {
  const LedgerRecord& record = ledger_record(object, index);
  const std::byte* run = ledger_run(object, record);
  const RunLayout layout = RunLayout::of(record);
  const auto committed = static_cast<std::size_t>(record.committed.load(std::memory_order_acquire));
  RecordView view;
  view.index = index;
  view.state = static_cast<RecordState>(record.state.load(std::memory_order_acquire));
  view.id = record.id;
  view.body = {reinterpret_cast<const char*>(run), record.body_bytes};
  view.body_hash_high = record.body_hash_high;
  view.body_hash_low = record.body_hash_low;
  view.accepted = record.accepted;
  view.deadline = record.deadline;
  view.images = {reinterpret_cast<const LedgerImage*>(run + layout.images), record.num_images};
  view.max_tokens = record.max_tokens;
  view.text_capacity = record.text_capacity;
  view.logprobs_per_token = record.logprobs_per_token;
  view.user = record.user;
  view.progress = record.progress;
  view.token_ids = {reinterpret_cast<const std::int32_t*>(run + layout.token_ids), committed};
  view.text_ends = {reinterpret_cast<const std::uint32_t*>(run + layout.text_ends), committed};
  view.logprobs = {reinterpret_cast<const TokenLogprob*>(run + layout.logprobs),
                   committed * record.logprobs_per_token};
  const std::uint32_t text_bytes = committed == 0 ? 0 : view.text_ends[committed - 1];
  const auto* text = reinterpret_cast<const char*>(run + layout.text);
  view.text = {text, text_bytes};
  if (view.state == RecordState::kTerminal) {
    view.terminal.reason = static_cast<std::uint8_t>(record.reason);
    view.terminal.code = static_cast<std::uint16_t>(record.code);
    view.terminal.prompt_tokens = record.prompt_tokens;
    view.terminal.image_tokens = record.image_tokens;
    view.terminal.cached_tokens = record.cached_tokens;
    view.terminal.finished = record.finished;
    const std::uint64_t told_ms = record.told_after_ms.load(std::memory_order_relaxed);
    const auto finished = static_cast<std::uint64_t>(record.finished);  // may be garbage
    view.terminal.told =
        told_ms == 0 ? 0 : static_cast<Nanos>(finished + (told_ms - 1) * kMillisecond);
    view.terminal.tail.assign(text + text_bytes, record.tail_bytes);
    view.terminal.error.assign(reinterpret_cast<const char*>(run + layout.error),
                               record.error_bytes);
  }
  return view;
}

Result<LedgerScan> scan_ledger(std::span<const std::byte> object) {
  FACET_TRY_STATUS(check_ledger_header(object));
  const LedgerHeader& header = ledger_header(object);
  LedgerScan scan;
  scan.epoch = header.epoch.load(std::memory_order_relaxed);
  std::vector<std::pair<std::uint32_t, std::uint32_t>> runs;  // first page, record
  for (std::uint32_t i = 0; i < header.max_records; ++i) {
    const std::uint32_t state = ledger_record(object, i).state.load(std::memory_order_acquire);
    if (state == static_cast<std::uint32_t>(RecordState::kFree)) continue;
    if (state == static_cast<std::uint32_t>(RecordState::kWriting)) {
      ++scan.num_unpublished;
    } else if (state > static_cast<std::uint32_t>(RecordState::kTerminal) ||
               !record_is_sound(object, i)) {
      ++scan.num_damaged;
    } else {
      runs.emplace_back(ledger_record(object, i).first_page, i);
    }
  }
  // Of records that overlap or share an id the later one is not believed.
  std::sort(runs.begin(), runs.end());
  std::unordered_set<RequestId> ids;
  std::uint64_t end = 0;
  for (const auto& [first_page, index] : runs) {
    const LedgerRecord& record = ledger_record(object, index);
    if (first_page < end || !ids.insert(record.id).second) {
      ++scan.num_damaged;
      continue;
    }
    end = std::uint64_t{first_page} + record.num_pages;
    scan.records.push_back(view_of_record(object, index));
  }
  const std::uint64_t word = header.handling.load(std::memory_order_relaxed);
  const std::uint64_t handling = word & ~LedgerWriter::kHandlingFault;
  if (handling != word && handling != 0 && handling <= header.max_records) {
    scan.handling = static_cast<std::uint32_t>(handling - 1);
  }
  return scan;
}

}  // namespace facet
