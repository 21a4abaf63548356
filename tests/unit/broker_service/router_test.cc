// Router on an inherited listener, with real DEALER peers.
#include "broker/service/router.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <functional>
#include <thread>
#include <vector>

#include "broker/service/service_limits.h"
#include "broker/service/worker_port.h"
#include "common/base/unique_fd.h"
#include "common/protocol/codec.h"
#include "common/shm/mailbox.h"
#include "tests/patience.h"
#include "tests/unit/protocol/dispatch_order.h"
#include "tests/unix_listener.h"

namespace facet {
namespace {

bool eventually(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + patient(std::chrono::seconds(10));
  while (std::chrono::steady_clock::now() < deadline) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

class RouterTest : public testing::Test {
 protected:
  RouterTest() {
    char folder[] = "/tmp/facet-router-XXXXXX";
    EXPECT_NE(mkdtemp(folder), nullptr);
    folder_ = folder;
    path_ = folder_ + "/listen.sock";
    listener_ = listen_at(path_, 64);
  }
  ~RouterTest() override { std::filesystem::remove_all(folder_); }

  std::unique_ptr<Router> make_router(int max_connections = 100) {
    auto router = Router::bind(context_, {.listen_fd = listener_.get(),
                                          .socket_path = path_,
                                          .max_frame_bytes = 1 << 16,
                                          .max_connections = max_connections});
    EXPECT_TRUE(router.has_value()) << (router ? "" : router.error().message);
    return std::move(*router);
  }

  zmq::socket_t make_peer(const std::string& identity = "") {
    zmq::socket_t peer(peers_, zmq::socket_type::dealer);
    if (!identity.empty()) peer.set(zmq::sockopt::routing_id, identity);
    peer.set(zmq::sockopt::linger, 0);
    peer.set(zmq::sockopt::rcvtimeo, patient_ms(10'000));
    peer.set(zmq::sockopt::reconnect_ivl, 10);
    peer.connect("ipc://" + path_);
    return peer;
  }

  static std::optional<Router::Message> next(Router& router) {
    std::optional<Router::Message> message;
    eventually([&] {
      router.update_connections();
      message = router.receive();
      return message.has_value();
    });
    return message;
  }

  static void send_frames(zmq::socket_t& peer, const std::vector<std::string>& frames) {
    for (std::size_t i = 0; i < frames.size(); ++i) {
      peer.send(zmq::buffer(frames[i]),
                i + 1 < frames.size() ? zmq::send_flags::sndmore : zmq::send_flags::none);
    }
  }

  std::string folder_, path_;
  UniqueFd listener_;
  zmq::context_t context_{1};
  zmq::context_t peers_{1};
};

TEST_F(RouterTest, KeepsTwoFramesAndCountsTheRest) {
  auto router = make_router();
  zmq::socket_t peer = make_peer("p");
  send_frames(peer, {"map"});
  send_frames(peer, {"map", "chunk"});
  send_frames(peer, {"a", "b", "c", "d", "e"});
  send_frames(peer, {"after"});
  auto message = next(*router);
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(message->identity, "p");
  EXPECT_EQ(message->map.to_string(), "map");
  EXPECT_FALSE(message->chunk.has_value());
  message = next(*router);
  ASSERT_TRUE(message && message->chunk);
  EXPECT_EQ(message->chunk->to_string(), "chunk");
  message = next(*router);
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(message->num_frames, 5u);
  EXPECT_EQ(message->chunk->to_string(), "b");
  message = next(*router);
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(message->map.to_string(), "after");
}

TEST_F(RouterTest, SlowReaderIsFullAndNothingIsLost) {
  auto router = make_router();
  zmq::socket_t peer(peers_, zmq::socket_type::dealer);
  peer.set(zmq::sockopt::rcvhwm, 2);
  peer.set(zmq::sockopt::linger, 0);
  peer.set(zmq::sockopt::rcvtimeo, patient_ms(10'000));
  peer.set(zmq::sockopt::routing_id, "slow");
  peer.connect("ipc://" + path_);
  send_frames(peer, {"hi"});
  ASSERT_TRUE(next(*router).has_value());
  const std::string filler(8 << 10, 'x');
  int sent = 0;
  while (router->send("slow", std::to_string(sent) + " " + filler) == Router::Sent::kYes) ++sent;
  EXPECT_EQ(router->send("slow", "again"), Router::Sent::kFull);
  EXPECT_GT(sent, 10);
  EXPECT_LT(sent, 2000);
  for (int i = 0; i < sent; ++i) {
    zmq::message_t message;
    ASSERT_TRUE(peer.recv(message).has_value()) << i;
    EXPECT_EQ(message.to_string().substr(0, message.to_string().find(' ')), std::to_string(i));
  }
  EXPECT_TRUE(eventually([&] { return router->send("slow", "room") == Router::Sent::kYes; }));
}

TEST_F(RouterTest, UnknownAndDepartedPeersAreGone) {
  auto router = make_router();
  EXPECT_EQ(router->send("nobody", "x"), Router::Sent::kGone);
  {
    zmq::socket_t peer = make_peer("brief");
    send_frames(peer, {"hi"});
    ASSERT_TRUE(next(*router).has_value());
    EXPECT_EQ(router->send("brief", "x"), Router::Sent::kYes);
  }
  EXPECT_TRUE(eventually([&] {
    router->receive();
    return router->send("brief", "x") == Router::Sent::kGone;
  }));
}

TEST_F(RouterTest, FrameBeyondTheLimitEndsThatConnectionOnly) {
  auto router = make_router();
  zmq::socket_t hostile = make_peer("hostile"), honest = make_peer("honest");
  send_frames(hostile, {std::string(1 << 20, 'x')});
  send_frames(honest, {"hello"});
  const auto message = next(*router);
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(message->identity, "honest");
}

TEST_F(RouterTest, BeyondTheLimitAllAreCutAndThoseThatStayAreServedAgain) {
  auto router = make_router(3);
  std::vector<zmq::socket_t> peers;
  for (int i = 0; i < 3; ++i) {
    peers.push_back(make_peer());
    send_frames(peers.back(), {"in"});
    ASSERT_TRUE(next(*router).has_value());
  }
  EXPECT_TRUE(eventually([&] {
    EXPECT_FALSE(router->update_connections());
    return router->num_connections() == 3;
  }));
  {
    zmq::socket_t one_too_many = make_peer();
    EXPECT_TRUE(eventually([&] { return router->update_connections(); }));
    peers.pop_back();
  }
  // The two that stay reconnect by themselves; what they sent into the cut is lost: they repeat.
  for (zmq::socket_t& peer : peers) {
    peer.set(zmq::sockopt::rcvtimeo, 50);
    zmq::message_t answer;
    EXPECT_TRUE(eventually([&] {
      send_frames(peer, {"again"});
      router->update_connections();
      while (auto message = router->receive()) router->send(message->identity, "yes");
      return peer.recv(answer).has_value();
    }));
  }
  EXPECT_TRUE(std::filesystem::exists(path_));
}

TEST_F(RouterTest, ASecondLifeOnTheSameListenerServesTheSamePeers) {
  auto router = make_router();
  zmq::socket_t peer = make_peer("stays");
  send_frames(peer, {"one"});
  ASSERT_TRUE(next(*router).has_value());
  router.reset();
  router = make_router();
  // What goes into the connection that just ended is lost: the protocol repeats it.
  EXPECT_TRUE(eventually([&] {
    send_frames(peer, {"two"});
    const auto message = router->receive();
    return message && message->map.to_string() == "two" && message->identity == "stays";
  }));
}

TEST_F(RouterTest, WorkerThatCannotBeToldWaitsForTheSupervisorsVerdict) {
  auto router = make_router();
  WorkerPort port(*router, 4, 1);
  const Nanos now = 100 * kSecond;
  EXPECT_FALSE(port.next_deadline(now).has_value());
  EXPECT_FALSE(port.send(SendCancel{.worker = 1, .incarnation = 7}, now).has_value());
  EXPECT_FALSE(port.send(SendCancel{.worker = 2, .incarnation = 8}, now + kSecond).has_value());
  EXPECT_FALSE(port.send(SendCancel{.worker = 1, .incarnation = 7}, now + kSecond).has_value());
  EXPECT_EQ(port.next_deadline(now), now + kVerdictGrace);
  EXPECT_FALSE(port.take_overdue(now + kVerdictGrace - 1).has_value());
  port.forget(1, 7);  // it is dead, and the core knows why
  EXPECT_FALSE(port.take_overdue(now + kVerdictGrace).has_value());
  const auto overdue = port.take_overdue(now + kSecond + kVerdictGrace);
  ASSERT_TRUE(overdue && std::holds_alternative<WorkerUnreachable>(*overdue));
  EXPECT_EQ(std::get<WorkerUnreachable>(*overdue).worker, 2u);
  EXPECT_EQ(std::get<WorkerUnreachable>(*overdue).incarnation, 8u);
  EXPECT_FALSE(port.next_deadline(now).has_value());
}

// A mailbox whose two ends stay here, for a writer and a reader.
struct TestMailbox {
  MailboxFds fds = create_mailbox().value();
  MailboxFds copy() const {
    return {UniqueFd(dup(fds.memory.get())), UniqueFd(dup(fds.doorbell.get()))};
  }
  MailboxReader reader() const {
    return MailboxReader::attach(fds.memory.get(), fds.doorbell.get()).value();
  }
};

std::string hello_of(const WorkerIdentity& identity) {
  Hello hello;
  hello.worker = identity.worker;
  hello.incarnation = identity.incarnation;
  hello.credits = 1;
  return encode_message(hello);
}

TEST_F(RouterTest, WorkerHearsNothingBeforeItsHelloToThisBroker) {
  auto router = make_router();
  WorkerPort port(*router, 4, 9);
  const TestMailbox mailbox;
  MailboxReader reader = mailbox.reader();
  port.open(2, 7, mailbox.copy());
  std::optional<Event> event;
  // One that is meant for another broker is the core's to judge, and counts for nothing here.
  for (const WorkerIdentity& identity :
       {WorkerIdentity{2, 7, 8}, WorkerIdentity{2, 6, 9}, WorkerIdentity{2, 7, 9}}) {
    EXPECT_FALSE(port.send(SendDrain{.worker = 2, .incarnation = 7}, 0).has_value());
    EXPECT_FALSE(reader.receive(9, 1000).value().has_value());
    zmq::socket_t peer = make_peer(format_worker_identity(identity));
    send_frames(peer, {hello_of(identity)});
    EXPECT_TRUE(eventually([&] { return port.receive(event); }));
    ASSERT_TRUE(event && std::holds_alternative<WorkerHello>(*event));
  }
  EXPECT_FALSE(port.send(SendDrain{.worker = 2, .incarnation = 6}, 0).has_value());
  EXPECT_FALSE(reader.receive(9, 1000).value().has_value());
  EXPECT_FALSE(port.send(SendDrain{.worker = 2, .incarnation = 7}, 0).has_value());
  const auto drain = reader.receive(9, 1000).value();
  ASSERT_TRUE(drain.has_value());
  EXPECT_TRUE(std::holds_alternative<Drain>(decode_worker_command(*drain).value()));
  port.forget(2, 7);  // dead
  EXPECT_FALSE(port.send(SendDrain{.worker = 2, .incarnation = 7}, 0).has_value());
  EXPECT_FALSE(reader.receive(9, 1000).value().has_value());
}

TEST_F(RouterTest, WorkerThatReadsNothingIsWaitedForAndThenReplaced) {
  auto router = make_router();
  WorkerPort port(*router, 1, 9);
  const TestMailbox mailbox;
  port.open(0, 7, mailbox.copy());
  zmq::socket_t peer = make_peer("0.7.9");
  send_frames(peer, {hello_of({0, 7, 9})});
  std::optional<Event> event;
  ASSERT_TRUE(eventually([&] { return port.receive(event); }));
  Dispatch work;
  work.request.id = RequestId::random();
  work.request.sampling.max_tokens = 1;
  work.request.messages.push_back(
      {"user", {{ContentPart::Kind::kText, std::string(10'000, 'w'), 0}}});
  SendDispatch dispatch{.worker = 0, .incarnation = 7, .dispatch = order_of(work)};
  std::uint32_t sent = 0;
  while (!port.next_deadline(5).has_value()) {
    dispatch.dispatch.attempt = ++sent;
    ASSERT_FALSE(port.send(dispatch, 0).has_value());
  }
  EXPECT_EQ(port.next_deadline(5), 5 + kMailboxRetry);
  EXPECT_FALSE(port.flush().has_value());  // still none
  dispatch.dispatch.attempt = ++sent;
  ASSERT_FALSE(port.send(dispatch, 0).has_value());
  MailboxReader reader = mailbox.reader();
  for (std::uint32_t received = 0; received < sent;) {
    if (const auto text = reader.receive(9, 1 << 20).value()) {
      const auto command = decode_worker_command(*text).value();
      ASSERT_EQ(std::get<Dispatch>(command).attempt, ++received);
    } else {
      EXPECT_FALSE(port.flush().has_value());
    }
  }
  EXPECT_FALSE(port.next_deadline(5).has_value());
  std::optional<Event> failed;
  for (std::size_t i = 0; i < 2 * kMaxMailWaiting && !failed; ++i) failed = port.send(dispatch, 0);
  ASSERT_TRUE(failed && std::holds_alternative<WorkerUnreachable>(*failed));
  EXPECT_EQ(std::get<WorkerUnreachable>(*failed).incarnation, 7u);
  EXPECT_FALSE(port.send(dispatch, 0).has_value());  // said once; the core ends it
}

TEST_F(RouterTest, WorkerWhosePositionsCannotBeIsReplaced) {
  auto router = make_router();
  WorkerPort port(*router, 1, 9);
  const TestMailbox mailbox;
  port.open(0, 7, mailbox.copy());
  zmq::socket_t peer = make_peer("0.7.9");
  send_frames(peer, {hello_of({0, 7, 9})});
  std::optional<Event> event;
  ASSERT_TRUE(eventually([&] { return port.receive(event); }));
  auto region = MappedRegion::map(mailbox.fds.memory.get(), MapAccess::kReadWrite).value();
  auto* header = reinterpret_cast<MailboxHeader*>(region.writable_bytes().data());
  header->head = 64;  // ahead of what was written
  const auto failed = port.send(SendDrain{.worker = 0, .incarnation = 7}, 0);
  ASSERT_TRUE(failed && std::holds_alternative<WorkerUnreachable>(*failed));
  port.open(0, 8, mailbox.copy());  // refused: said in the log
  EXPECT_FALSE(port.send(SendDrain{.worker = 0, .incarnation = 8}, 0).has_value());
  EXPECT_TRUE(port.take_overdue(kVerdictGrace).has_value());
}

TEST_F(RouterTest, LongPathIsRefusedByName) {
  auto router = Router::bind(
      context_, {.listen_fd = listener_.get(), .socket_path = "/tmp/" + std::string(120, 'p')});
  ASSERT_FALSE(router.has_value());
  EXPECT_EQ(router.error().code, Code::kInvalidArgument);
}

}  // namespace
}  // namespace facet
