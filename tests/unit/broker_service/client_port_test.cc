// ClientPort behind a real Router: what of a malformed message the core is told.
#include "broker/service/client_port.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>
#include <zmq.hpp>

#include "common/base/unique_fd.h"
#include "common/protocol/codec.h"
#include "common/protocol/limits.h"
#include "tests/patience.h"
#include "tests/unix_listener.h"

namespace facet {
namespace {

class ClientPortTest : public testing::Test {
 protected:
  ClientPortTest() {
    char folder[] = "/tmp/facet-port-XXXXXX";
    EXPECT_NE(mkdtemp(folder), nullptr);
    folder_ = folder;
    const std::string path = folder_ + "/listen.sock";
    listener_ = listen_at(path, 8);
    auto router = Router::bind(context_, {.listen_fd = listener_.get(), .socket_path = path,
                                          .max_frame_bytes = 2 << 20, .max_connections = 8});
    EXPECT_TRUE(router.has_value()) << (router ? "" : router.error().message);
    router_ = std::move(*router);
    port_.emplace(
        *router_, ClientPort::Limits{8, 8},
        [this](Event event) { events_.push_back(std::move(event)); },
        [] { return std::string("{}"); });
    peer_.set(zmq::sockopt::linger, 0);
    peer_.set(zmq::sockopt::rcvtimeo, patient_ms(10'000));
    peer_.connect("ipc://" + path);
  }
  ~ClientPortTest() override { std::filesystem::remove_all(folder_); }

  void send(const std::string& map, const std::string& chunk = "") {
    peer_.send(zmq::buffer(map), chunk.empty() ? zmq::send_flags::none : zmq::send_flags::sndmore);
    if (!chunk.empty()) peer_.send(zmq::buffer(chunk), zmq::send_flags::none);
    const auto deadline = std::chrono::steady_clock::now() + patient(std::chrono::seconds(10));
    while (std::chrono::steady_clock::now() < deadline) {
      router_->update_connections();
      if (port_->receive(kSecond)) return;
    }
    FAIL() << "nothing came";
  }

  std::string folder_;
  UniqueFd listener_;
  zmq::context_t context_{1};
  zmq::context_t peers_{1};
  zmq::socket_t peer_{peers_, zmq::socket_type::dealer};
  std::vector<Event> events_;
  std::unique_ptr<Router> router_;
  std::optional<ClientPort> port_;
};

TEST_F(ClientPortTest, MalformedPutsAndGeneratesAreForTheCore) {
  RequestId id;
  id.bytes[0] = 7;
  send(encode_message(PutChunk{id, 2, 98, 49}), std::string(51, 'x'));
  send(encode_message(PutChunk{id, 0, 1ull << 31, 0}), std::string(51, 'x'));
  send(encode_message(PutChunk{id, 0, 1 << 21, 0}), std::string(kMaxChunkBytes + 1, 'x'));
  ASSERT_EQ(events_.size(), 3u);
  for (const Event& event : events_) {
    const auto& put = std::get<ClientPut>(event);
    EXPECT_TRUE(put.malformed.has_value());
    EXPECT_EQ(put.chunk.id, id);
    EXPECT_TRUE(put.bytes.empty());
  }
  EXPECT_EQ(std::get<ClientPut>(events_[0]).chunk.image, 2u);
  EXPECT_EQ(std::get<ClientPut>(events_[0]).chunk.offset, 49u);
  EXPECT_EQ(std::get<ClientPut>(events_[2]).malformed->code, Code::kTooLarge);
  GenerateRequest empty;
  empty.id = id;
  send(encode_message(empty));
  ASSERT_EQ(events_.size(), 4u);
  EXPECT_TRUE(std::get<ClientGenerate>(events_[3]).malformed.has_value());
  EXPECT_EQ(port_->counters().refused_malformed, 4u);
}

TEST_F(ClientPortTest, WhatHasNoIdIsAnsweredAtOnce) {
  send("\xc1");
  send(encode_message(CancelRequest{}));
  EXPECT_TRUE(events_.empty());
  for (int i = 0; i < 2; ++i) {
    zmq::message_t answer;
    ASSERT_TRUE(peer_.recv(answer).has_value());
    const auto message = decode_broker_message(answer.to_string_view());
    ASSERT_TRUE(message && std::holds_alternative<Refused>(*message));
    EXPECT_EQ(std::get<Refused>(*message).code, Code::kInvalidArgument);
  }
}

}  // namespace
}  // namespace facet
