#include <algorithm>
#include <cstring>
#include <new>
#include <string>
#include <unordered_set>

#include "common/base/check.h"
#include "common/base/crash_point.h"
#include "common/shm/ledger_layout.h"

namespace facet {
namespace {

std::uint32_t pages_for(std::uint64_t bytes) {
  const std::uint64_t pages = (bytes + kLedgerPageBytes - 1) / kLedgerPageBytes;
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(pages, UINT32_MAX));
}

// Cuts at a whole UTF-8 character.
std::string_view cut(std::string_view text, std::size_t most) {
  if (text.size() <= most) return text;
  while (most > 0 && (static_cast<unsigned char>(text[most]) & 0xC0) == 0x80) --most;
  return text.substr(0, most);
}

template <class Record>  // to be written, or as it is
std::uint64_t total_bytes(const Record& of) {
  return RunLayout::of(of.body.size(), of.images.size(), of.max_tokens, of.text_capacity,
                       of.logprobs_per_token)
      .total;
}

void copy_bytes(void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

}  // namespace

Status format_ledger(std::span<std::byte> object, std::uint32_t max_records) {
  const std::uint64_t arena_offset = ledger_arena_offset(max_records);
  // One page for each record and four to spare: less could not hold even one short request each.
  const std::uint64_t least = arena_offset + (std::uint64_t{max_records} + 4) * kLedgerPageBytes;
  if (max_records == 0 || object.size() < least) {
    return Error(Code::kInvalidArgument, "a ledger of " + std::to_string(max_records) +
                                             " records needs at least " + std::to_string(least) +
                                             " bytes, not " + std::to_string(object.size()));
  }
  auto* records = reinterpret_cast<LedgerRecord*>(object.data() + sizeof(LedgerHeader));
  for (std::uint32_t i = 0; i < max_records; ++i) new (&records[i]) LedgerRecord{};
  auto* header = new (object.data()) LedgerHeader{};
  header->version = LedgerHeader::kVersion;
  header->max_records = max_records;
  header->object_bytes = object.size();
  header->arena_offset = arena_offset;
  header->arena_pages = static_cast<std::uint32_t>(
      std::min<std::uint64_t>((object.size() - arena_offset) / kLedgerPageBytes, UINT32_MAX));
  header->magic.store(LedgerHeader::kMagic, std::memory_order_release);
  return {};
}

LedgerWriter::LedgerWriter(std::span<std::byte> object)
    : object_(object),
      header_(reinterpret_cast<LedgerHeader*>(object.data())),
      pages_(header_->arena_pages) {}

Result<LedgerWriter> LedgerWriter::attach(std::span<std::byte> object) {
  LedgerScan scan = FACET_TRY(scan_ledger(object));
  LedgerWriter writer(object);
  std::unordered_set<std::uint32_t> kept;
  for (const RecordView& view : scan.records) {
    const LedgerRecord& record = writer.record(view.index);
    FACET_CHECK(writer.pages_.adopt(record.first_page, record.num_pages));
    kept.insert(view.index);
  }
  for (std::uint32_t i = writer.header_->max_records; i-- > 0;) {
    if (kept.contains(i)) continue;
    writer.record(i).state.store(static_cast<std::uint32_t>(RecordState::kFree),
                                 std::memory_order_release);
    writer.free_records_.push_back(i);
  }
  FACET_CRASH_POINT("ledger.attaching");
  writer.epoch_ = scan.epoch + 1;
  writer.header_->epoch.store(writer.epoch_, std::memory_order_release);
  writer.header_->handling.store(0, std::memory_order_release);
  FACET_CRASH_POINT("ledger.attached");
  writer.scan_ = std::move(scan);
  return writer;
}

std::uint64_t LedgerWriter::run_bytes(const RecordSpec& spec) {
  return total_bytes(spec);
}

std::uint64_t LedgerWriter::run_bytes(const RecordView& view) {
  return total_bytes(view);
}

Result<std::uint32_t> LedgerWriter::publish(const RecordSpec& spec) {
  const std::uint64_t bytes = run_bytes(spec);
  const std::uint64_t most = std::uint64_t{std::max(pages_.num_pages() / 4, 1u)} * kLedgerPageBytes;
  if (bytes > most || spec.body.size() > UINT32_MAX) {
    return Error(Code::kTooLarge, "the request and room for its answer need " +
                                      std::to_string(bytes) +
                                      " bytes of the ledger; one request"
                                      " may take " +
                                      std::to_string(most));
  }
  if (free_records_.empty()) {
    return Error(Code::kExhausted, "all " + std::to_string(header_->max_records) +
                                       " records of the ledger are in use");
  }
  const auto first = pages_.allocate(pages_for(bytes));
  if (!first) {
    return Error(Code::kExhausted,
                 "the ledger has no room for " + std::to_string(bytes) + " bytes now");
  }
  const std::uint32_t index = free_records_.back();
  free_records_.pop_back();
  LedgerRecord& to = record(index);
  to.state.store(static_cast<std::uint32_t>(RecordState::kWriting), std::memory_order_release);
  to.first_page = *first;
  to.num_pages = pages_for(bytes);
  to.body_bytes = static_cast<std::uint32_t>(spec.body.size());
  to.num_images = static_cast<std::uint32_t>(spec.images.size());
  to.max_tokens = spec.max_tokens;
  to.text_capacity = spec.text_capacity;
  to.logprobs_per_token = spec.logprobs_per_token;
  to.user = spec.user;
  to.reserved = 0;
  to.id = spec.id;
  to.body_hash_high = spec.body_hash_high;
  to.body_hash_low = spec.body_hash_low;
  to.accepted = spec.accepted;
  to.deadline = spec.deadline;
  to.seal = record_seal(to);
  to.committed.store(0, std::memory_order_relaxed);
  to.progress = {};
  auto* run = const_cast<std::byte*>(ledger_run(object_, to));
  copy_bytes(run, spec.body.data(), spec.body.size());
  copy_bytes(run + RunLayout::of(to).images, spec.images.data(), spec.images.size_bytes());
  FACET_CRASH_POINT("ledger.publishing");
  to.state.store(static_cast<std::uint32_t>(RecordState::kLive), std::memory_order_release);
  FACET_CRASH_POINT("ledger.published");
  return index;
}

Status LedgerWriter::append(std::uint32_t index, std::span<const std::int32_t> token_ids,
                            std::span<const std::string> token_texts,
                            std::span<const TokenLogprob> logprobs) {
  FACET_CHECK(token_ids.size() == token_texts.size());
  LedgerRecord& to = record(index);
  FACET_CHECK(to.state.load(std::memory_order_relaxed) ==
              static_cast<std::uint32_t>(RecordState::kLive));
  if (logprobs.size() != token_ids.size() * to.logprobs_per_token) {
    return Error(Code::kTooLarge, std::to_string(logprobs.size()) + " logprobs of " +
                                      std::to_string(token_ids.size()) + " tokens; " +
                                      std::to_string(to.logprobs_per_token) +
                                      " of each are reserved");
  }
  const std::uint64_t committed = to.committed.load(std::memory_order_relaxed);
  if (token_ids.size() > to.max_tokens - committed) {
    return Error(Code::kTooLarge, "the answer has " + std::to_string(committed + token_ids.size()) +
                                      " tokens; " + std::to_string(to.max_tokens) +
                                      " were asked for");
  }
  const RunLayout layout = RunLayout::of(to);
  auto* run = const_cast<std::byte*>(ledger_run(object_, to));
  auto* ids = reinterpret_cast<std::int32_t*>(run + layout.token_ids);
  auto* ends = reinterpret_cast<std::uint32_t*>(run + layout.text_ends);
  auto* text = reinterpret_cast<char*>(run + layout.text);
  std::uint64_t end = committed == 0 ? 0 : ends[committed - 1];
  std::uint64_t needed = end;
  for (const std::string& part : token_texts) needed += part.size();
  if (needed > to.text_capacity) {
    return Error(Code::kTooLarge, "the answer's text has " + std::to_string(needed) +
                                      " bytes after " +
                                      std::to_string(committed + token_ids.size()) + " tokens; " +
                                      std::to_string(to.text_capacity) + " are reserved");
  }
  for (std::size_t i = 0; i < token_ids.size(); ++i) {
    copy_bytes(text + end, token_texts[i].data(), token_texts[i].size());
    end += token_texts[i].size();
    ids[committed + i] = token_ids[i];
    ends[committed + i] = static_cast<std::uint32_t>(end);
  }
  copy_bytes(run + layout.logprobs + committed * to.logprobs_per_token * sizeof(TokenLogprob),
             logprobs.data(), logprobs.size_bytes());
  FACET_CRASH_POINT("ledger.appending");
  to.committed.store(committed + token_ids.size(), std::memory_order_release);
  FACET_CRASH_POINT("ledger.appended");
  return {};
}

void LedgerWriter::set_progress(std::uint32_t index, const RecordProgress& progress) {
  record(index).progress = progress;
  FACET_CRASH_POINT("ledger.progress");
}

Status LedgerWriter::finish(std::uint32_t index, const TerminalRecord& terminal) {
  LedgerRecord& to = record(index);
  FACET_CHECK(to.state.load(std::memory_order_relaxed) ==
              static_cast<std::uint32_t>(RecordState::kLive));
  const RunLayout layout = RunLayout::of(to);
  auto* run = const_cast<std::byte*>(ledger_run(object_, to));
  const std::size_t used = view(index).text.size();
  if (terminal.tail.size() > to.text_capacity - used) {
    return Error(Code::kTooLarge, "the answer's text has " +
                                      std::to_string(used + terminal.tail.size()) + " bytes; " +
                                      std::to_string(to.text_capacity) + " are reserved");
  }
  const std::string_view error = cut(terminal.error, kLedgerMaxErrorBytes);
  copy_bytes(run + layout.text + used, terminal.tail.data(), terminal.tail.size());
  copy_bytes(run + layout.error, error.data(), error.size());
  to.reason = terminal.reason;
  to.code = terminal.code;
  to.prompt_tokens = terminal.prompt_tokens;
  to.image_tokens = terminal.image_tokens;
  to.cached_tokens = terminal.cached_tokens;
  to.finished = terminal.finished;
  to.told_after_ms.store(0, std::memory_order_relaxed);
  to.tail_bytes = static_cast<std::uint32_t>(terminal.tail.size());
  to.error_bytes = static_cast<std::uint32_t>(error.size());
  FACET_CRASH_POINT("ledger.finishing");
  to.state.store(static_cast<std::uint32_t>(RecordState::kTerminal), std::memory_order_release);
  FACET_CRASH_POINT("ledger.finished");
  return {};
}

void LedgerWriter::set_told(std::uint32_t index, std::optional<Nanos> when) {
  LedgerRecord& of = record(index);
  FACET_CHECK(of.state.load(std::memory_order_relaxed) ==
              static_cast<std::uint32_t>(RecordState::kTerminal));
  const Nanos after = !when ? 0 : (*when - of.finished) / kMillisecond + 1;
  of.told_after_ms.store(static_cast<std::uint32_t>(std::clamp<Nanos>(after, 0, UINT32_MAX)),
                         std::memory_order_relaxed);
}

void LedgerWriter::set_heard_before(Nanos when) {
  header_->heard_before.store(when, std::memory_order_relaxed);
}

Nanos LedgerWriter::heard_before() const {
  return header_->heard_before.load(std::memory_order_relaxed);
}

void LedgerWriter::erase(std::uint32_t index) {
  LedgerRecord& gone = record(index);
  FACET_CHECK(gone.state.load(std::memory_order_relaxed) !=
              static_cast<std::uint32_t>(RecordState::kFree));
  gone.state.store(static_cast<std::uint32_t>(RecordState::kFree), std::memory_order_release);
  FACET_CRASH_POINT("ledger.erased");
  pages_.release(gone.first_page);
  free_records_.push_back(index);
}

void LedgerWriter::set_handling(std::optional<std::uint32_t> index) {
  header_->handling.store(index ? std::uint64_t{*index} + 1 : 0, std::memory_order_release);
}

std::atomic<std::uint64_t>& LedgerWriter::handling_word() {
  return header_->handling;
}

RecordView LedgerWriter::view(std::uint32_t index) const {
  FACET_CHECK(record(index).state.load(std::memory_order_relaxed) !=
              static_cast<std::uint32_t>(RecordState::kFree));
  return view_of_record(object_, index);
}

std::uint32_t LedgerWriter::num_tokens(std::uint32_t index) const {
  return static_cast<std::uint32_t>(record(index).committed.load(std::memory_order_relaxed));
}

std::span<const std::int32_t> LedgerWriter::token_ids(std::uint32_t index) const {
  const LedgerRecord& from = record(index);
  const auto* ids = reinterpret_cast<const std::int32_t*>(ledger_run(object_, from) +
                                                          RunLayout::of(from).token_ids);
  return {ids, num_tokens(index)};
}

std::span<const TokenLogprob> LedgerWriter::logprobs_between(std::uint32_t index,
                                                             std::uint32_t first,
                                                             std::uint32_t end) const {
  FACET_CHECK(first <= end && end <= num_tokens(index));
  const LedgerRecord& from = record(index);
  const std::size_t width = from.logprobs_per_token;
  const auto* all = reinterpret_cast<const TokenLogprob*>(ledger_run(object_, from) +
                                                          RunLayout::of(from).logprobs);
  return {all + first * width, (end - first) * width};
}

std::string_view LedgerWriter::text_between(std::uint32_t index, std::uint32_t first,
                                            std::uint32_t end) const {
  FACET_CHECK(first <= end && end <= num_tokens(index));
  const LedgerRecord& from = record(index);
  const RunLayout layout = RunLayout::of(from);
  const std::byte* run = ledger_run(object_, from);
  const auto* ends = reinterpret_cast<const std::uint32_t*>(run + layout.text_ends);
  const auto* text = reinterpret_cast<const char*>(run + layout.text);
  const std::uint32_t begin_byte = first == 0 ? 0 : ends[first - 1];
  const std::uint32_t end_byte = end == 0 ? 0 : ends[end - 1];
  return {text + begin_byte, end_byte - begin_byte};
}

LedgerUse LedgerWriter::use() const {
  return {
      header_->max_records, header_->max_records - static_cast<std::uint32_t>(free_records_.size()),
      pages_.num_pages(),   pages_.used_pages(),
      pages_.high_mark(),   pages_.largest_free_run()};
}

Status LedgerWriter::check_conservation() const {
  FACET_TRY_STATUS(pages_.check_conservation());
  std::uint32_t taken = 0;
  std::uint64_t pages = 0;
  for (std::uint32_t i = 0; i < header_->max_records; ++i) {
    const LedgerRecord& one = record(i);
    if (one.state.load(std::memory_order_relaxed) ==
        static_cast<std::uint32_t>(RecordState::kFree)) {
      continue;
    }
    ++taken;
    pages += one.num_pages;
    if (pages_.run_length(one.first_page) != one.num_pages) {
      return Error(Code::kInternal, "ledger: record " + std::to_string(i) + " has " +
                                        std::to_string(one.num_pages) + " pages, leased " +
                                        std::to_string(pages_.run_length(one.first_page)));
    }
  }
  if (taken + free_records_.size() != header_->max_records || pages != pages_.used_pages()) {
    return Error(Code::kInternal, "ledger: " + std::to_string(taken) + " records and " +
                                      std::to_string(pages) + " pages taken, " +
                                      std::to_string(free_records_.size()) + " free, " +
                                      std::to_string(pages_.used_pages()) + " pages leased");
  }
  return {};
}

LedgerRecord& LedgerWriter::record(std::uint32_t index) const {
  FACET_CHECK(index < header_->max_records);
  return const_cast<LedgerRecord&>(ledger_record(object_, index));
}

}  // namespace facet
