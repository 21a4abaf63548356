// The broker's commands to one worker: writers that die, readers that are behind, garbage.
#include "common/shm/mailbox.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <random>
#include <vector>

#include "common/base/clock.h"

namespace facet {
namespace {

constexpr std::size_t kMost = 8 << 20;

class MailboxTest : public testing::Test {
 protected:
  MailboxFds copy() const {
    return {UniqueFd(dup(fds_.memory.get())), UniqueFd(dup(fds_.doorbell.get()))};
  }
  MailboxWriter make_writer(std::uint64_t epoch = 1) const {
    return MailboxWriter::attach(copy(), epoch).value();
  }
  MailboxReader make_reader() const {
    return MailboxReader::attach(fds_.memory.get(), fds_.doorbell.get()).value();
  }
  bool is_rung() const {
    pollfd polled{.fd = fds_.doorbell.get(), .events = POLLIN, .revents = 0};
    return poll(&polled, 1, 0) == 1;
  }
  // The object, to damage it.
  MailboxHeader& header() {
    return *reinterpret_cast<MailboxHeader*>(region_.writable_bytes().data());
  }
  std::span<std::byte> data() { return region_.writable_bytes().subspan(kMailboxDataOffset); }

  MailboxFds fds_ = create_mailbox().value();
  MappedRegion region_ = MappedRegion::map(fds_.memory.get(), MapAccess::kReadWrite).value();
};

std::string text_of(std::size_t number, std::size_t bytes) {
  std::string text = std::to_string(number) + ":";
  while (text.size() < bytes) text.push_back(static_cast<char>('a' + (number + text.size()) % 26));
  return text;
}

TEST_F(MailboxTest, MessagesOfAnySizeComeWholeAndInOrderRoundAndRound) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  MailboxWriter writer = make_writer();
  MailboxReader reader = make_reader();
  const auto bytes_of = [&] {
    const std::size_t most = std::size_t{1} << std::uniform_int_distribution(0, 20)(random);
    return 1 + std::uniform_int_distribution<std::size_t>(0, most)(random);
  };
  std::vector<std::string> sent;
  std::size_t received = 0;
  for (int turn = 0; turn < 1000; ++turn) {
    if (random() % 2 == 0 && sent.size() - received < 20) {
      sent.push_back(text_of(sent.size(), bytes_of()));
      ASSERT_TRUE(writer.send(sent.back()).has_value());
    }
    if (random() % 4 == 0) {
      ASSERT_TRUE(writer.flush().has_value());
    }
    if (random() % 2 == 0) continue;
    if (const auto message = reader.receive(1, kMost).value()) {
      ASSERT_EQ(*message, sent.at(received++));
    }
  }
  while (received < sent.size()) {
    ASSERT_TRUE(writer.flush().has_value());
    while (const auto message = reader.receive(1, kMost).value()) {
      ASSERT_EQ(*message, sent.at(received++));
    }
  }
  EXPECT_FALSE(writer.has_waiting());
}

TEST_F(MailboxTest, AReaderInAnotherProcessIsWokenForEachAndMissesNone) {
  constexpr std::size_t kCount = 4'000;
  const pid_t pid = fork();
  ASSERT_GE(pid, 0);
  if (pid == 0) {
    MailboxReader reader = make_reader();
    std::size_t received = 0;
    while (received < kCount) {
      while (const auto message = reader.receive(1, kMost).value()) {
        if (*message != text_of(received, 1 + received % 700)) _exit(1);
        ++received;
      }
      if (received == kCount || !reader.begin_rest()) continue;
      pollfd polled{.fd = reader.doorbell(), .events = POLLIN, .revents = 0};
      if (poll(&polled, 1, 60'000) != 1) _exit(2);  // a bell that was not rung
      reader.end_rest();
    }
    _exit(0);
  }
  MailboxWriter writer = make_writer();
  for (std::size_t i = 0; i < kCount; ++i) {
    ASSERT_TRUE(writer.send(text_of(i, 1 + i % 700)).has_value());
    while (writer.has_waiting()) ASSERT_TRUE(writer.flush().has_value());
    if (i % 100 == 0) usleep(200);  // lets it fall asleep now and then
  }
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0) << "1: another message than the one sent; 2: slept on";
}

TEST_F(MailboxTest, OnlyARestingReaderIsRung) {
  MailboxWriter writer = make_writer();
  MailboxReader reader = make_reader();
  ASSERT_TRUE(writer.send("awake").has_value());
  EXPECT_FALSE(is_rung());
  EXPECT_FALSE(reader.begin_rest()) << "with mail nobody rests";
  EXPECT_EQ(reader.receive(1, kMost).value(), "awake");
  EXPECT_TRUE(reader.begin_rest());
  EXPECT_FALSE(is_rung());
  ASSERT_TRUE(writer.send("rests").has_value());
  EXPECT_TRUE(is_rung());
  reader.end_rest();
  EXPECT_EQ(reader.receive(1, kMost).value(), "rests");
  EXPECT_TRUE(reader.begin_rest());
  EXPECT_FALSE(is_rung()) << "silenced";
}

TEST_F(MailboxTest, WhatIsInTheWayOfRoomWaitsInOrderUpToABound) {
  MailboxWriter writer = make_writer();
  MailboxReader reader = make_reader();
  const std::string big(kMailboxBytes, 'b');
  ASSERT_TRUE(writer.send(big).has_value());  // its header makes it too long
  EXPECT_TRUE(writer.has_waiting());
  std::size_t sent = 1;
  while (writer.send("small").has_value()) ASSERT_LE(++sent, kMaxMailWaiting);
  EXPECT_EQ(writer.send("small").error().code, Code::kExhausted);
  EXPECT_EQ(sent, kMaxMailWaiting);
  std::size_t received = 0;
  while (received < sent) {
    ASSERT_TRUE(writer.flush().has_value());
    while (const auto message = reader.receive(1, kMost).value()) {
      ASSERT_EQ(*message, received++ == 0 ? big : "small");
    }
  }
}

TEST_F(MailboxTest, OfADeadWriterNothingIsHeardByWhoFollowsTheNextOne) {
  MailboxReader reader = make_reader();
  {
    MailboxWriter first = make_writer(1);
    ASSERT_TRUE(first.send("one of the first").has_value());
    EXPECT_EQ(reader.receive(1, kMost).value(), "one of the first");
    ASSERT_TRUE(first.send("unread").has_value());
    ASSERT_TRUE(first.send(std::string(2 * kMailboxBytes, 'x')).has_value());
    EXPECT_TRUE(first.has_waiting());  // and dies with it
  }
  MailboxWriter second = make_writer(2);
  ASSERT_TRUE(second.send("one of the second").has_value());
  for (int i = 0; i < 3; ++i) {
    while (const auto message = reader.receive(2, kMost).value()) {
      EXPECT_EQ(*message, "one of the second");
      EXPECT_FALSE(second.has_waiting());
    }
    ASSERT_TRUE(second.flush().has_value());
  }
  ASSERT_TRUE(second.send("more").has_value());
  EXPECT_EQ(reader.receive(2, kMost).value(), "more");
}

TEST_F(MailboxTest, AMessageThatBeganBeforeTheReaderFollowedIsNotHandedOutInHalf) {
  MailboxWriter writer = make_writer(5);
  MailboxReader reader = make_reader();
  ASSERT_TRUE(writer.send(std::string(kMailboxBytes, 'x')).has_value());
  EXPECT_FALSE(reader.receive(4, kMost).value().has_value());  // its first part, not for us
  ASSERT_TRUE(writer.flush().has_value());
  ASSERT_TRUE(writer.send("whole").has_value());
  EXPECT_EQ(reader.receive(5, kMost).value(), "whole");
}

TEST_F(MailboxTest, WhatAWriterHadBegunWhenItWasKilledIsNeverSeen) {
  MailboxReader reader = make_reader();
  // All that a killed writer can leave beyond the tail: any bytes at all.
  std::mt19937 random(7);
  for (std::byte& byte : data()) byte = static_cast<std::byte>(random());
  EXPECT_FALSE(reader.receive(1, kMost).value().has_value());
  MailboxWriter writer = make_writer(1);
  for (std::size_t i = 0; i < 1000; ++i) {
    ASSERT_TRUE(writer.send(text_of(i, 1 + i)).has_value());
    ASSERT_EQ(reader.receive(1, kMost).value(), text_of(i, 1 + i));
  }
}

TEST_F(MailboxTest, WritersKilledAtAnyMomentLeaveWholeMessagesOfTheirEpochs) {
  MailboxReader reader = make_reader();
  std::uint64_t num_heard = 0;
  for (std::uint64_t epoch = 1; epoch <= 12; ++epoch) {
    const pid_t pid = fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) {
      MailboxWriter writer = make_writer(epoch);
      for (std::size_t i = 0;; ++i) {
        while (writer.has_waiting()) {
          if (!writer.flush()) _exit(1);
        }
        if (!writer.send(text_of(i, 1 + i * 37 % 9000))) _exit(1);
      }
    }
    // Follows each one for a while, then leaves to the next turn what the dead one had said.
    std::size_t next = 0;
    const std::size_t enough = 1 + epoch * 13 % 200;
    while (next < enough) {
      const auto message = reader.receive(epoch, kMost);
      ASSERT_TRUE(message.has_value()) << message.error().message;
      if (!*message) continue;
      ASSERT_EQ(**message, text_of(next, 1 + next * 37 % 9000)) << "epoch " << epoch;
      ++next;
      ++num_heard;
    }
    kill(pid, SIGKILL);
    int status = 0;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    ASSERT_TRUE(WIFSIGNALED(status));
  }
  EXPECT_GT(num_heard, 12u);
}

TEST_F(MailboxTest, GarbageIsAnErrorForEitherSide) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 400; ++round) {
    for (std::size_t i = 0; i < 4096; i += 8) {
      const std::uint64_t word = random() >> (random() % 64);
      std::memcpy(data().data() + i, &word, sizeof word);
    }
    header().head = 0;
    header().tail = random() % 4096 / 16 * 16;
    MailboxReader reader = make_reader();
    for (int i = 0; i < 300; ++i) {
      const auto message = reader.receive(random() % 3, 1000);
      if (!message || !*message) break;
      EXPECT_LE((*message)->size(), 1000u);
    }
  }
  header().head = 0;
  for (const std::uint64_t tail : {std::uint64_t{8}, kMailboxBytes + 16, ~std::uint64_t{0}}) {
    header().tail = tail;
    EXPECT_EQ(make_reader().receive(1, kMost).error().code, Code::kCorrupt) << tail;
    EXPECT_EQ(MailboxWriter::attach(copy(), 1).error().code, Code::kCorrupt) << tail;
  }
  header().tail = 0;
  MailboxWriter writer = make_writer();
  header().head = 16;
  EXPECT_EQ(writer.send("x").error().code, Code::kCorrupt);
  header().magic = 1;
  EXPECT_EQ(MailboxReader::attach(fds_.memory.get(), fds_.doorbell.get()).error().code,
            Code::kCorrupt);
  ASSERT_EQ(ftruncate(fds_.memory.get(), 4096), 0);
  EXPECT_EQ(MailboxWriter::attach(copy(), 1).error().code, Code::kCorrupt);
}

TEST_F(MailboxTest, AMessageBeyondTheReadersLimitIsRefusedWithTheNumbers) {
  MailboxWriter writer = make_writer();
  MailboxReader reader = make_reader();
  ASSERT_TRUE(writer.send(std::string(1001, 'x')).has_value());
  const auto message = reader.receive(1, 1000);
  ASSERT_FALSE(message.has_value());
  EXPECT_EQ(message.error().code, Code::kTooLarge);
  EXPECT_NE(message.error().message.find("1001"), std::string::npos);
}

TEST_F(MailboxTest, PositionsMayBeAsLongAsAWorkerLives) {
  header().head = ~std::uint64_t{0} - 1023;
  header().tail = ~std::uint64_t{0} - 1023;
  MailboxWriter writer = make_writer();
  MailboxReader reader = make_reader();
  for (std::size_t i = 0; i < 100; ++i) {
    ASSERT_TRUE(writer.send(text_of(i, 100)).has_value());
    ASSERT_EQ(reader.receive(1, kMost).value(), text_of(i, 100));
  }
}

}  // namespace
}  // namespace facet
