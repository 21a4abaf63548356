// A ledger that nobody vouches for. The input plays a broker that writes records, then damages
// bytes, with the seals made right again where it wants; the scan must find all of what is whole,
// and never hand out a record whose numbers do not fit.
#include <xxhash.h>

#include <algorithm>
#include <map>
#include <set>

#include "common/base/check.h"
#include "common/shm/ledger_layout.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/unit/shm/aligned_memory.h"

namespace facet::fuzz {
namespace {

constexpr std::uint32_t kRecords = 6;
constexpr std::size_t kBytes = (kRecords + 26) * kLedgerPageBytes;
constexpr std::string_view kPlaces[] = {"ledger"};

struct Written {
  RequestId id;
  std::string body;
  std::uint32_t tokens = 0;
  bool is_terminal = false;
  std::uint32_t logprobs_per_token = 0;
};
using Model = std::map<std::uint32_t, Written>;  // by record

RequestId next_id() {
  static std::uint64_t count = 0;
  RequestId id;
  const std::uint64_t number = ++count;
  std::memcpy(id.bytes.data(), &number, sizeof number);
  return id;
}

void publish(LedgerWriter& writer, Model& model, Dice& dice) {
  const std::vector<LedgerImage> images(dice.byte() % 3);
  Written made{next_id(), std::string(dice.byte() * 30u, 'b'), 0, false};
  RecordSpec spec;
  spec.id = made.id;
  spec.body = made.body;
  spec.images = images;
  spec.max_tokens = dice.byte();
  spec.text_capacity = dice.byte() * 8u;
  spec.logprobs_per_token = made.logprobs_per_token = spec.text_capacity / 8 % 3;
  if (const auto index = writer.publish(spec)) model[*index] = made;
}

void append(LedgerWriter& writer, std::uint32_t index, Written& written, std::uint8_t count) {
  const std::vector<std::int32_t> ids(count, 7);
  const std::vector<std::string> texts(count, "ab");
  const std::vector<TokenLogprob> logprobs(count * written.logprobs_per_token, {7, -1});
  if (writer.append(index, ids, texts, logprobs)) written.tokens += count;
}

void finish(LedgerWriter& writer, std::uint32_t index, Written& written) {
  TerminalRecord end;
  end.reason = 4;
  end.code = 6;
  end.error = "why";
  written.is_terminal = writer.finish(index, end).has_value();
}

void write_something(LedgerWriter& writer, Model& model, Dice& dice) {
  const std::uint8_t what = dice.byte() % 5;
  if (what == 0 || model.empty()) return publish(writer, model, dice);
  auto at = model.begin();
  std::advance(at, dice.byte() % model.size());
  const std::uint8_t detail = dice.byte();
  if (what == 1) writer.set_handling(at->first);
  if (what == 2 && !at->second.is_terminal) append(writer, at->first, at->second, detail);
  if (what == 3 && !at->second.is_terminal) finish(writer, at->first, at->second);
  if (what == 4) {
    writer.erase(at->first);
    model.erase(at);
  }
}

// Writes any word anywhere in header, table or arena, or seals a record as if it had been meant so.
void damage(std::span<std::byte> object, Dice& dice) {
  constexpr std::size_t kTableEnd = sizeof(LedgerHeader) + kRecords * sizeof(LedgerRecord);
  const std::uint8_t what = dice.byte();
  if (what % 4 == 0) {
    auto* records = reinterpret_cast<LedgerRecord*>(object.data() + sizeof(LedgerHeader));
    LedgerRecord& record = records[dice.byte() % kRecords];
    record.seal = record_seal(record);
    return;
  }
  const std::size_t room = what % 4 == 3 ? object.size() : kTableEnd;
  const std::size_t at = dice.word() % (room / 4) * 4;
  const std::uint32_t value = what >= 128 ? dice.word() : dice.byte();
  std::memcpy(object.data() + at, &value, sizeof value);
}

bool holds(std::span<const std::byte> object, const void* data, std::size_t bytes) {
  const auto* begin = static_cast<const std::byte*>(data);
  return bytes == 0 || (begin >= object.data() && begin + bytes <= object.data() + object.size());
}

void check_view(std::span<const std::byte> object, const RecordView& view) {
  FACET_CHECK(view.index < kRecords);
  FACET_CHECK(view.state == RecordState::kLive || view.state == RecordState::kTerminal);
  FACET_CHECK(holds(object, view.body.data(), view.body.size()));
  FACET_CHECK(holds(object, view.images.data(), view.images.size_bytes()));
  FACET_CHECK(holds(object, view.token_ids.data(), view.token_ids.size_bytes()));
  FACET_CHECK(holds(object, view.text.data(), view.text.size()));
  FACET_CHECK(holds(object, view.logprobs.data(), view.logprobs.size_bytes()));
  FACET_CHECK(view.logprobs.size() == view.token_ids.size() * view.logprobs_per_token);
  FACET_CHECK(view.token_ids.size() <= view.max_tokens);
  FACET_CHECK(view.text_ends.size() == view.token_ids.size());
  FACET_CHECK(view.text.size() + view.terminal.tail.size() <= view.text_capacity);
  FACET_CHECK(std::is_sorted(view.text_ends.begin(), view.text_ends.end()));
  FACET_CHECK(view.terminal.error.size() <= kLedgerMaxErrorBytes && view.terminal.reason <= 4);
}

// No two records share an id or a byte.
void check_scan(std::span<const std::byte> object, const LedgerScan& scan) {
  std::set<RequestId> ids;
  std::set<std::uint32_t> indices;
  std::map<const std::byte*, const std::byte*> runs;
  for (const RecordView& view : scan.records) {
    check_view(object, view);
    FACET_CHECK(ids.insert(view.id).second && indices.insert(view.index).second);
    const LedgerRecord& record = ledger_record(object, view.index);
    const std::byte* begin = ledger_run(object, record);
    FACET_CHECK(holds(object, begin, record.num_pages * kLedgerPageBytes));
    runs[begin] = begin + record.num_pages * kLedgerPageBytes;
  }
  FACET_CHECK(runs.size() == scan.records.size());
  const std::byte* end = nullptr;
  for (const auto& [begin, run_end] : runs) {
    FACET_CHECK(end <= begin);
    end = run_end;
  }
  FACET_CHECK(scan.records.size() + scan.num_damaged + scan.num_unpublished <= kRecords);
  FACET_CHECK(!scan.handling || *scan.handling < kRecords);
}

void check_nothing_lost(const LedgerScan& scan, const Model& model) {
  FACET_CHECK(scan.num_damaged == 0 && scan.records.size() == model.size());
  for (const RecordView& view : scan.records) {
    const Written& written = model.at(view.index);
    FACET_CHECK(view.id == written.id && view.body == written.body);
    FACET_CHECK(view.token_ids.size() == written.tokens && view.text.size() == 2 * written.tokens);
    FACET_CHECK((view.state == RecordState::kTerminal) == written.is_terminal);
  }
}

// A new broker takes over whatever was accepted, works on, and everything comes back.
void take_over(std::span<std::byte> object, const LedgerScan& scan) {
  const std::uint64_t epoch = scan.epoch;
  auto writer = LedgerWriter::attach(object);
  FACET_CHECK_MSG(writer, "scanned, but not attached");
  FACET_CHECK(writer->epoch() == epoch + 1 && writer->use().records == scan.records.size());
  FACET_CHECK_MSG(writer->check_conservation(), "after attaching");
  Model model;
  for (const RecordView& view : writer->scan().records) {
    Written& written = model[view.index];
    if (view.state == RecordState::kLive) append(*writer, view.index, written, 1);
    if (view.state == RecordState::kLive) finish(*writer, view.index, written);
    check_view(object, writer->view(view.index));
  }
  std::string more = "\x05\x05\x01\x10\x01";
  std::string_view rest = more;
  Dice dice(rest);
  publish(*writer, model, dice);
  FACET_CHECK_MSG(writer->check_conservation(), "after working on");
  const auto second = scan_ledger(object);
  FACET_CHECK(second && second->num_damaged == 0 && second->records.size() == model.size());
  for (const auto& [index, written] : model) writer->erase(index);
  FACET_CHECK(writer->use().used == 0 && writer->use().records == 0);
  FACET_CHECK_MSG(writer->check_conservation(), "after erasing all");
}

}  // namespace

// Read from the end: how many steps, the steps, how many damages, the damages.
std::vector<std::string> seeds() {
  std::vector<std::string> made;
  std::string steps;
  for (int i = 0; i < 40; ++i) {
    steps += std::string("\x10\x20\x05\x01\x03\x07", 6) + static_cast<char>(i);
  }
  made.push_back(std::string(64, '\0') + steps + '\x1f');
  made.push_back(std::string("\x01\x02\x03\x04\x85\x03\x00\x00\x00\x00", 10) + steps + '\x08');
  made.push_back(steps + steps + '\x10');
  made.push_back(std::string(1, '\0'));
  return made;
}

void run_one(std::string_view input) {
  static AlignedMemory memory(kBytes);
  const std::span<std::byte> object = memory.span();
  std::memset(object.data(), 0, object.size());
  FACET_CHECK(format_ledger(object, kRecords));
  Dice dice(input);
  Model model;
  {
    auto writer = LedgerWriter::attach(object);
    FACET_CHECK(writer);
    for (int steps = dice.byte() % 32; steps > 0; --steps) write_something(*writer, model, dice);
    FACET_CHECK_MSG(writer->check_conservation(), "after writing");
  }
  const int damages = dice.byte() % 16;
  for (int i = 0; i < damages; ++i) damage(object, dice);
  const std::uint64_t before = XXH3_64bits(object.data(), object.size());
  const auto scan = scan_ledger(object);
  FACET_CHECK_MSG(XXH3_64bits(object.data(), object.size()) == before, "scanning wrote");
  if (damages == 0) {
    FACET_CHECK_MSG(scan, "a whole ledger is refused");
    check_nothing_lost(*scan, model);
  }
  if (!scan) return check_refusal(scan.error(), 200, kPlaces);
  check_scan(object, *scan);
  take_over(object, *scan);
}

}  // namespace facet::fuzz
