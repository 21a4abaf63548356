// Refusals, silence, gaps, a daemon that is not there.
#include <sys/socket.h>
#include <sys/un.h>

#include <map>

#include "common/base/unique_fd.h"
#include "tests/unit/client/fake_broker.h"

namespace facet {
namespace {

ClientOptions quick() {
  ClientOptions options;
  options.silence = 600 * kMillisecond;  // a busy host may answer late
  options.lost_after = 20 * kSecond;
  return options;
}

TEST(Client, RetriesARefusalWithAHintFromTheStart) {
  Pair pair;
  const RequestId id = *pair.client.submit(ask(1), {image_bytes("pixels")});
  auto got = pair.next();
  EXPECT_TRUE(got.is<PutChunk>());
  pair.broker.send(got.peer, Refused{id, Code::kExhausted, "ring full", 40});
  EXPECT_TRUE(pair.next().is<GenerateRequest>());  // was on its way
  // It is refused too, for good as it seems: the first refusal counts.
  pair.broker.send(got.peer, Refused{id, Code::kInvalidArgument, "no image 0", 0});
  const Nanos start = monotonic_now();
  const Retrying retrying = pair.next_event<Retrying>();
  EXPECT_EQ(retrying.error.code, Code::kExhausted);
  EXPECT_GE(retrying.wait_ms, 40u);
  EXPECT_LE(retrying.wait_ms, 60u);
  EXPECT_TRUE(pair.next().is<PutChunk>());
  EXPECT_GE(monotonic_now() - start, 20 * kMillisecond);
  EXPECT_TRUE(pair.next().is<GenerateRequest>());
  EXPECT_TRUE(pair.events.empty());
}

TEST(Client, GivesARefusalForGoodToTheUser) {
  Pair pair;
  const RequestId id = *pair.client.submit(ask());
  const auto got = pair.next();
  pair.broker.send(got.peer, Refused{id, Code::kTooLarge, "needs 9, has 8", 0});
  const Failed failed = pair.next_event<Failed>();
  EXPECT_EQ(failed.id, id);
  EXPECT_EQ(failed.error.code, Code::kTooLarge);
  EXPECT_EQ(failed.error.message, "needs 9, has 8");
  EXPECT_EQ(pair.client.num_unfinished(), 0u);
}

TEST(Client, StopsRetryingInTheEnd) {
  ClientOptions options;
  options.retry_for = 100 * kMillisecond;
  Pair pair(options);
  const RequestId id = *pair.client.submit(ask());
  while (pair.client.num_unfinished() > 0) {
    pair.turn();
    if (const auto got = pair.broker.receive()) {
      pair.broker.send(got->peer, Refused{id, Code::kClosed, "restarting", 30});
    }
  }
  EXPECT_EQ(std::get<Failed>(pair.events.back()).error.code, Code::kClosed);
  EXPECT_TRUE(std::holds_alternative<Retrying>(pair.events.front()));
}

TEST(Client, GoesOnAtTheNextTokenAfterSilence) {
  Pair pair(quick());
  const RequestId id = *pair.client.submit(ask(1), {image_bytes("pixels")});
  pair.next();
  const auto first = pair.next();
  pair.broker.send(first.peer, Tokens{id, 0, {1, 2, 3}, "abc"});
  EXPECT_EQ(pair.next_event<Tokens>().index, 0u);
  const auto second = pair.next();
  EXPECT_NE(second.peer, first.peer);
  ASSERT_TRUE(second.is<GenerateRequest>());  // without its image
  EXPECT_EQ(second.as<GenerateRequest>().id, id);
  EXPECT_EQ(second.as<GenerateRequest>().next_index, 3u);
  pair.broker.send(second.peer, Tokens{id, 3, {4}, "d"});
  EXPECT_EQ(pair.next_event<Tokens>().text, "d");
}

TEST(Client, SendsImagesAgainWhenTheDaemonForgotThem) {
  Pair pair(quick());
  const RequestId id = *pair.client.submit(ask(1), {image_bytes("pixels")});
  pair.next();
  const auto first = pair.next();
  pair.broker.send(first.peer, Tokens{id, 0, {1}, "a"});
  EXPECT_EQ(pair.next_event<Tokens>().index, 0u);
  const auto second = pair.next();
  pair.broker.send(second.peer, Refused{id, Code::kClosed, "restarted", 10});
  EXPECT_EQ(pair.next_event<Retrying>().error.message, "restarted");
  EXPECT_EQ(pair.next().chunk, "pixels");
  EXPECT_EQ(pair.next().as<GenerateRequest>().next_index, 1u);
}

TEST(Client, KeepalivesAreSignsOfLife) {
  Pair pair(quick());
  const RequestId id = *pair.client.submit(ask());
  const auto got = pair.next();
  pair.broker.send(got.peer, Accepted{id, 0, 0, 7});
  const Nanos end = monotonic_now() + 4 * quick().silence;
  while (monotonic_now() < end) {
    pair.broker.send(got.peer, Keepalive{7});
    pair.turn();
    EXPECT_FALSE(pair.broker.receive());
  }
}

TEST(Client, ANewBrokerIsAskedForWhatTheFormerOneFollowed) {
  Pair pair;  // with its usual patience: it is the epoch that tells
  const RequestId old_one = *pair.client.submit(ask(0, "old"));
  const auto first = pair.next();
  pair.broker.send(first.peer, Accepted{old_one, 0, 0, 7});
  pair.broker.send(first.peer, Tokens{old_one, 0, {1}, "a"});
  EXPECT_EQ(pair.next_event<Accepted>().epoch, 7u);
  EXPECT_EQ(pair.next_event<Tokens>().text, "a");
  const RequestId new_one = *pair.client.submit(ask(0, "new"));
  pair.next();
  pair.broker.send(first.peer, Accepted{new_one, 0, 0, 8});
  pair.broker.send(first.peer, Keepalive{8});
  std::map<RequestId, std::uint32_t> asked;
  for (int i = 0; i < 2; ++i) {
    const auto again = pair.next();
    EXPECT_NE(again.peer, first.peer);
    asked[again.as<GenerateRequest>().id] = again.as<GenerateRequest>().next_index;
  }
  EXPECT_EQ(asked.at(old_one), 1u);
  EXPECT_EQ(asked.at(new_one), 0u);
}

TEST(Client, ARequestThatIsNotAnsweredAmongOthersIsSentAgain) {
  Pair pair(quick());
  const RequestId lost = *pair.client.submit(ask(0, "lost"));
  const auto first = pair.next();
  const RequestId other = *pair.client.submit(ask(0, "other"));
  pair.next();
  pair.broker.send(first.peer, Accepted{other, 0, 0, 7});
  std::optional<FakeBroker::Got> again;
  const Nanos deadline = monotonic_now() + 10 * kSecond;
  while (!again && monotonic_now() < deadline) {
    pair.broker.send(first.peer, Keepalive{7});
    pair.turn();
    again = pair.broker.receive();
  }
  ASSERT_TRUE(again);
  EXPECT_NE(again->peer, first.peer);
  const RequestId one = again->as<GenerateRequest>().id;
  EXPECT_TRUE(one == lost || one == other);
}

TEST(Client, ABusyUserIsNotASilentDaemon) {
  Pair pair(quick());
  const RequestId id = *pair.client.submit(ask());
  const auto got = pair.next();
  pair.broker.send(got.peer, Tokens{id, 0, {1}, "a"});
  const timespec longer_than_the_silence{0, 400'000'000};
  nanosleep(&longer_than_the_silence, nullptr);
  EXPECT_EQ(pair.next_event<Tokens>().index, 0u);
  EXPECT_FALSE(pair.broker.receive());
}

TEST(Client, AGapOrARepeatEndsTheRequest) {
  for (const std::uint32_t index : {0u, 1u, 3u, 4000000000u}) {
    Pair pair;
    const RequestId id = *pair.client.submit(ask());
    const auto got = pair.next();
    pair.broker.send(got.peer, Tokens{id, 0, {1, 2}, "ab"});
    pair.broker.send(got.peer, Tokens{id, index, {9}, "x"});
    EXPECT_EQ(pair.next_event<Tokens>().text, "ab");
    const Failed failed = pair.next_event<Failed>();
    EXPECT_EQ(failed.error.code, Code::kCorrupt);
    EXPECT_EQ(failed.error.message,
              "token " + std::to_string(index) + " came where token 2 was due");
    EXPECT_EQ(pair.next().as<CancelRequest>().id, id);
  }
}

TEST(Client, NoiseFromTheDaemonHarmsNothing) {
  Pair pair;
  const RequestId id = *pair.client.submit(ask());
  const auto got = pair.next();
  for (const char* noise : {"", "\xc1", "\x81\xa1v\x01", "\x82\xa1v\x01\xa4type\xa5later"}) {
    pair.broker.send_raw(got.peer, noise);
  }
  pair.broker.send(got.peer, Tokens{RequestId::random(), 5, {1}, "another's"});
  pair.broker.send(got.peer, Refused{{}, Code::kInvalidArgument, "what?", 0});
  pair.broker.send(got.peer, Tokens{id, 0, {1}, "mine"});
  EXPECT_EQ(pair.next_event<Tokens>().text, "mine");
}

TEST(Client, CancelSurvivesAReconnection) {
  Pair pair(quick());
  const RequestId id = *pair.client.submit(ask());
  pair.next();
  pair.client.cancel(id);
  EXPECT_TRUE(pair.next().is<CancelRequest>());
  const auto again = pair.next();
  EXPECT_TRUE(again.is<GenerateRequest>());
  EXPECT_EQ(pair.next().as<CancelRequest>().id, id);
}

TEST(Client, FailsWhenTheDaemonIsGoneForGood) {
  ClientOptions options = quick();
  options.lost_after = 500 * kMillisecond;
  auto pair = std::make_unique<Pair>(options);
  static_cast<void>(*pair->client.submit(ask()));
  const Failed failed = pair->next_event<Failed>();
  EXPECT_EQ(failed.error.code, Code::kClosed);
  EXPECT_NE(failed.error.message.find("no sign of life"), std::string::npos);
  EXPECT_EQ(pair->client.num_unfinished(), 0u);
}

TEST(Client, FailsSoonerWhenNobodyListensAnyMore) {
  ClientOptions options = quick();
  options.deserted_after = 400 * kMillisecond;
  auto broker = std::make_unique<FakeBroker>();
  auto client = Client::connect(broker->path(), options);
  ASSERT_TRUE(client);
  static_cast<void>(*client->submit(ask()));
  broker.reset();
  std::vector<ClientEvent> events;
  const Nanos start = monotonic_now();
  while (events.empty() && monotonic_now() - start < 10 * kSecond) {
    events = client->poll(100 * kMillisecond);
  }
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(std::get<Failed>(events[0]).error.code, Code::kClosed);
}

TEST(Client, StatusOfASilentDaemonTimesOut) {
  Pair pair;
  const auto status = pair.client.status(100 * kMillisecond);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::kTimeout);
}

TEST(Connect, SaysWhyItCannot) {
  const TempDir dir;
  const std::string path = (dir.path / "s").string();
  EXPECT_EQ(Client::connect(path).error().code, Code::kNotFound);
  EXPECT_EQ(Client::connect(std::string(108, 'x')).error().code, Code::kInvalidArgument);
  EXPECT_EQ(Client::connect("").error().code, Code::kInvalidArgument);
  // A socket file whose owner is dead.
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  const UniqueFd owner(socket(AF_UNIX, SOCK_STREAM, 0));
  ASSERT_EQ(bind(owner.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(Client::connect(path).error().code, Code::kClosed);
}

}  // namespace
}  // namespace facet
