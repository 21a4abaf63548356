#include "common/shm/ledger.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "tests/unit/shm/aligned_memory.h"

namespace facet {
namespace {

constexpr std::size_t kBytes = 256 << 10;
constexpr std::uint32_t kRecords = 16;

class Ledger : public testing::Test {
 protected:
  Ledger() : memory(kBytes) { EXPECT_TRUE(format_ledger(memory.span(), kRecords).has_value()); }
  LedgerWriter writer() { return std::move(LedgerWriter::attach(memory.span()).value()); }
  static RecordSpec spec(std::uint8_t number, std::string_view body = "body") {
    RecordSpec s;
    s.id.bytes[3] = number;
    s.body = body;
    s.accepted = 5;
    s.deadline = 10;
    s.max_tokens = 8;
    s.text_capacity = 64;
    return s;
  }
  AlignedMemory memory;
};

const std::vector<std::int32_t> kIds{7, 8, 9};
const std::vector<std::string> kTexts{"one", "", "three"};

TEST_F(Ledger, ARecordSurvivesItsWriter) {
  {
    LedgerWriter ledger = writer();
    RecordSpec s = spec(1, "the request");
    const std::vector<LedgerImage> images{{5, 1, 77, 1234, 20, 30, 1, 2}};
    s.images = images;
    const auto index = ledger.publish(s);
    ASSERT_TRUE(index.has_value());
    ASSERT_TRUE(ledger.append(*index, kIds, kTexts).has_value());
    ledger.set_progress(*index, {.attempts = 3, .strikes = 1, .dispatched = 11, .first_token = 12});
    ledger.set_handling(*index);
    ledger.handling_word() |= LedgerWriter::kHandlingFault;
  }
  const LedgerWriter next = writer();
  EXPECT_EQ(next.epoch(), 2u);
  ASSERT_EQ(next.scan().records.size(), 1u);
  const RecordView& view = next.scan().records[0];
  EXPECT_EQ(next.scan().handling, view.index);
  EXPECT_EQ(view.state, RecordState::kLive);
  EXPECT_EQ(view.body, "the request");
  EXPECT_EQ(view.text, "onethree");
  EXPECT_EQ(std::vector(view.token_ids.begin(), view.token_ids.end()), kIds);
  ASSERT_EQ(view.images.size(), 1u);
  EXPECT_EQ(view.images[0].generation, 77u);
  EXPECT_EQ(view.progress.attempts, 3u);
  EXPECT_EQ(view.progress.first_token, 12);
  EXPECT_EQ(next.text_between(view.index, 1, 3), "three");
  EXPECT_TRUE(next.check_conservation().has_value());
}

TEST_F(Ledger, AnEndIsKeptWithTailAndErrorUntilErased) {
  LedgerWriter ledger = writer();
  const auto index = *ledger.publish(spec(1));
  ASSERT_TRUE(ledger.append(index, kIds, kTexts).has_value());
  TerminalRecord terminal;
  terminal.reason = 4;
  terminal.code = 12;
  terminal.tail = "tail";
  terminal.error = std::string(kLedgerMaxErrorBytes - 1, 'x') + "\xc3\xa4";  // cut whole
  ASSERT_TRUE(ledger.finish(index, terminal).has_value());
  const LedgerWriter next = writer();
  const RecordView& view = next.scan().records.at(0);
  EXPECT_EQ(view.state, RecordState::kTerminal);
  EXPECT_EQ(view.terminal.tail, "tail");
  EXPECT_EQ(view.text, "onethree");
  EXPECT_EQ(view.terminal.error, std::string(kLedgerMaxErrorBytes - 1, 'x'));
  ledger.erase(index);
  EXPECT_EQ(ledger.use().used, 0u);
  EXPECT_TRUE(scan_ledger(memory.span())->records.empty());
}

TEST_F(Ledger, ANextWriterKnowsWhoWasToldAnEnd) {
  LedgerWriter ledger = writer();
  EXPECT_EQ(ledger.heard_before(), 0);
  ledger.set_heard_before(17 * kSecond);
  std::vector<std::uint32_t> records;
  for (std::uint8_t i = 0; i < 4; ++i) {
    records.push_back(*ledger.publish(spec(static_cast<std::uint8_t>(i + 1))));
    TerminalRecord terminal;
    terminal.reason = 1;
    terminal.finished = 10 * kSecond;
    ASSERT_TRUE(ledger.finish(records[i], terminal).has_value());
  }
  ledger.set_told(records[1], 10 * kSecond);
  ledger.set_told(records[2], 12 * kSecond + 1);
  ledger.set_told(records[3], 12 * kSecond);
  ledger.set_told(records[3], std::nullopt);
  const LedgerWriter next = writer();
  EXPECT_EQ(next.heard_before(), 17 * kSecond);
  std::vector<Nanos> told;
  for (const std::uint32_t record : records) told.push_back(next.view(record).terminal.told);
  EXPECT_EQ(told, (std::vector<Nanos>{0, 10 * kSecond, 12 * kSecond, 0}));
}

TEST_F(Ledger, LogprobsAreKeptWithTheirTokens) {
  const std::vector<TokenLogprob> told{{7, -1}, {1, -0.5F}, {8, -2}, {8, -2}, {9, -3}, {2, -0.25F}};
  {
    LedgerWriter ledger = writer();
    RecordSpec with = spec(1);
    with.logprobs_per_token = 2;
    EXPECT_EQ(LedgerWriter::run_bytes(with),
              LedgerWriter::run_bytes(spec(1)) + 16 * with.max_tokens);
    const auto index = *ledger.publish(with);
    ASSERT_TRUE(ledger.append(index, std::span(kIds).first(1), std::span(kTexts).first(1),
                              std::span(told).first(2)));
    ASSERT_TRUE(ledger.append(index, std::span(kIds).subspan(1), std::span(kTexts).subspan(1),
                              std::span(told).subspan(2)));
    TerminalRecord terminal;
    terminal.reason = 1;
    terminal.cached_tokens = 48;
    ASSERT_TRUE(ledger.finish(index, terminal));
  }
  const LedgerWriter next = writer();
  const RecordView& view = next.scan().records.at(0);
  EXPECT_EQ(std::vector(view.logprobs.begin(), view.logprobs.end()), told);
  EXPECT_EQ(view.text, "onethree");
  EXPECT_EQ(view.terminal.cached_tokens, 48u);
  const auto part = next.logprobs_between(view.index, 1, 2);
  EXPECT_EQ(std::vector(part.begin(), part.end()), std::vector(told.begin() + 2, told.begin() + 4));
}

TEST_F(Ledger, AppendIsAllOrNothingAndNamesTheNumbers) {
  LedgerWriter ledger = writer();
  const auto index = *ledger.publish(spec(1));
  const std::vector<std::int32_t> nine(9, 1);
  const auto tokens = ledger.append(index, nine, std::vector<std::string>(9));
  ASSERT_FALSE(tokens.has_value());
  EXPECT_EQ(tokens.error().code, Code::kTooLarge);
  const std::vector<std::string> long_texts{"a", "b", std::string(63, 'c')};
  const auto text = ledger.append(index, kIds, long_texts);
  ASSERT_FALSE(text.has_value());
  EXPECT_NE(text.error().message.find("65"), std::string::npos);
  EXPECT_NE(text.error().message.find("64"), std::string::npos);
  EXPECT_EQ(ledger.num_tokens(index), 0u);
  const std::vector<std::string> fitting{"a", "b", std::string(62, 'c')};
  EXPECT_TRUE(ledger.append(index, kIds, fitting).has_value());
  TerminalRecord terminal;
  terminal.reason = 1;
  terminal.tail = "x";
  EXPECT_FALSE(ledger.finish(index, terminal).has_value());
  EXPECT_EQ(ledger.view(index).state, RecordState::kLive);
}

TEST_F(Ledger, FullAndTooLargeAreTwoThings) {
  LedgerWriter ledger = writer();
  const std::string big(100'000, 'b');
  const auto too_large = ledger.publish(spec(1, big));
  ASSERT_FALSE(too_large.has_value());
  EXPECT_EQ(too_large.error().code, Code::kTooLarge);
  std::vector<std::uint32_t> taken;
  for (std::uint8_t i = 0; i < kRecords; ++i) taken.push_back(*ledger.publish(spec(i)));
  const auto full = ledger.publish(spec(99));
  ASSERT_FALSE(full.has_value());
  EXPECT_EQ(full.error().code, Code::kExhausted);
  ledger.erase(taken[5]);
  EXPECT_TRUE(ledger.publish(spec(99)).has_value());
  EXPECT_TRUE(ledger.check_conservation().has_value());
}

TEST_F(Ledger, ACrashBetweenAnyTwoWritesLeavesNothingOrAll) {
  // A published record with one more token written but not committed.
  LedgerWriter ledger = writer();
  const auto index = *ledger.publish(spec(1));
  ASSERT_TRUE(ledger.append(index, kIds, kTexts).has_value());
  AlignedMemory before(kBytes);
  std::memcpy(before.span().data(), memory.span().data(), kBytes);
  const std::vector<std::int32_t> more{10};
  ASSERT_TRUE(ledger.append(index, more, std::vector<std::string>{"four"}).has_value());
  // All bytes of the second append except the committed count, in one image.
  const RecordView view = ledger.view(index);
  const auto offset = [&](const void* at) {
    return static_cast<const std::byte*>(at) - memory.span().data();
  };
  std::memcpy(before.span().data() + offset(&view.token_ids[3]), &view.token_ids[3], 4);
  std::memcpy(before.span().data() + offset(&view.text_ends[3]), &view.text_ends[3], 4);
  const auto scan = scan_ledger(before.span());
  ASSERT_TRUE(scan.has_value());
  EXPECT_EQ(scan->records.at(0).token_ids.size(), 3u);
  EXPECT_EQ(scan->records.at(0).text, "onethree");
}

TEST_F(Ledger, GarbageIsSkippedAndCountedNeverACrash) {
  LedgerWriter ledger = writer();
  for (std::uint8_t i = 0; i < 10; ++i) {
    const auto index = *ledger.publish(spec(i, "request " + std::to_string(i)));
    ASSERT_TRUE(ledger.append(index, kIds, kTexts).has_value());
    TerminalRecord terminal;
    terminal.reason = 1;
    if (i % 2 == 0) {
      ASSERT_TRUE(ledger.finish(index, terminal).has_value());
    }
  }
  std::mt19937_64 rng(3);
  std::uint64_t damaged = 0;
  for (int round = 0; round < 2000; ++round) {
    AlignedMemory copy(kBytes);
    std::memcpy(copy.span().data(), memory.span().data(), kBytes);
    const std::size_t low = round % 4 == 0 ? 0 : 128;  // with or without the header
    for (int i = 0; i < 1 + round % 40; ++i) {
      copy.span()[low + rng() % (8192 + 40 * 4096)] = static_cast<std::byte>(rng());
    }
    auto attached = LedgerWriter::attach(copy.span());
    if (!attached) continue;
    damaged += attached->scan().num_damaged;
    EXPECT_TRUE(attached->check_conservation().has_value());
    for (const RecordView& view : attached->scan().records) {
      std::uint64_t sum = view.text.size() + view.terminal.tail.size();
      for (std::int32_t id : view.token_ids) sum += static_cast<std::uint32_t>(id);
      for (char c : view.body) sum += static_cast<unsigned char>(c);
      EXPECT_GT(sum, 0u);
    }
  }
  EXPECT_GT(damaged, 100u);
}

TEST_F(Ledger, OfTwoRecordsWithOneIdOnlyOneIsBelieved) {
  LedgerWriter ledger = writer();
  (void)*ledger.publish(spec(1));
  (void)*ledger.publish(spec(1));
  const auto scan = scan_ledger(memory.span());
  EXPECT_EQ(scan->records.size(), 1u);
  EXPECT_EQ(scan->num_damaged, 1u);
}

TEST_F(Ledger, ObjectsThatAreNoLedgerAreRefused) {
  AlignedMemory blank(kBytes);
  EXPECT_FALSE(scan_ledger(blank.span()).has_value());
  EXPECT_FALSE(scan_ledger(blank.span().first(8)).has_value());
  EXPECT_FALSE(format_ledger(blank.span().first(4096), kRecords).has_value());
  EXPECT_FALSE(format_ledger(blank.span(), 0).has_value());
  EXPECT_FALSE(scan_ledger(memory.span().first(kBytes / 2)).has_value());
}

}  // namespace
}  // namespace facet
