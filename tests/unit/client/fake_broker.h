// A broker that says what the test tells it to, driven from the test's own thread.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <zmq.hpp>

#include "common/client/client.h"
#include "common/protocol/codec.h"

namespace facet {

struct TempDir {
  TempDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "facet-XXXXXX").string();
    path = ::mkdtemp(pattern.data());
  }
  ~TempDir() { std::filesystem::remove_all(path); }
  std::string file(const std::string& name, const std::string& content) const {
    std::ofstream(path / name, std::ios::binary) << content;
    return (path / name).string();
  }
  std::filesystem::path path;
};

class FakeBroker {
 public:
  FakeBroker() : socket_(context_, zmq::socket_type::router) {
    socket_.set(zmq::sockopt::linger, 0);
    socket_.set(zmq::sockopt::rcvhwm, 4);  // as the broker: what is not read is not sent either
    socket_.bind("ipc://" + path());
  }
  std::string path() const { return (dir_.path / "s").string(); }

  struct Got {
    std::string peer;
    ClientMessage message;
    std::string chunk;
    template <class T>
    const T& as() const {
      return std::get<T>(message);
    }
    template <class T>
    bool is() const {
      return std::holds_alternative<T>(message);
    }
  };

  std::optional<Got> receive() {
    zmq::message_t peer;
    if (!socket_.recv(peer, zmq::recv_flags::dontwait)) return std::nullopt;
    std::vector<std::string> frames;
    for (bool more = peer.more(); more;) {
      zmq::message_t frame;
      EXPECT_TRUE(socket_.recv(frame));
      more = frame.more();
      frames.push_back(frame.to_string());
    }
    auto message = frames.size() == 2 ? decode_client_message(frames[0], frames[1])
                                      : decode_client_message(frames.at(0));
    EXPECT_TRUE(message) << message.error().message;
    return Got{peer.to_string(), *message, frames.size() == 2 ? frames[1] : ""};
  }

  template <class T>
  void send(const std::string& peer, const T& message) {
    send_raw(peer, encode_message(message));
  }
  void send_raw(const std::string& peer, const std::string& map) {
    socket_.send(zmq::buffer(peer), zmq::send_flags::sndmore);
    socket_.send(zmq::buffer(map), zmq::send_flags::none);
  }

 private:
  TempDir dir_;
  zmq::context_t context_;
  zmq::socket_t socket_;
};

// A client and its broker, and what the client has returned so far.
struct Pair {
  explicit Pair(ClientOptions options = {}) : client(*Client::connect(broker.path(), options)) {}

  // Runs the client until the broker has a message.
  FakeBroker::Got next() {
    const Nanos deadline = monotonic_now() + 10 * kSecond;
    while (monotonic_now() < deadline) {
      if (auto got = broker.receive()) return *std::move(got);
      turn();
    }
    ADD_FAILURE() << "the client sent nothing";
    throw std::runtime_error("no message");
  }
  template <class T>
  T next_event() {
    const Nanos deadline = monotonic_now() + 10 * kSecond;
    while (events.empty() && monotonic_now() < deadline) turn();
    if (events.empty()) throw std::runtime_error("no event");
    EXPECT_TRUE(std::holds_alternative<T>(events.front())) << events.front().index();
    T event = std::get<T>(events.front());
    events.erase(events.begin());
    return event;
  }
  void turn() {
    for (auto& event : client.poll(2 * kMillisecond)) events.push_back(std::move(event));
  }

  FakeBroker broker;
  Client client;
  std::vector<ClientEvent> events;
};

inline GenerateRequest ask(std::size_t num_images = 0, std::string text = "what?") {
  GenerateRequest request;
  Message message{"user", {}};
  for (std::uint32_t i = 0; i < num_images; ++i) {
    message.content.push_back(ContentPart{ContentPart::Kind::kImage, "", i});
  }
  message.content.push_back(ContentPart{ContentPart::Kind::kText, std::move(text), 0});
  request.messages.push_back(std::move(message));
  return request;
}

inline ImageSource image_bytes(std::string bytes) {
  return ImageSource{"", std::make_shared<const std::string>(std::move(bytes))};
}

}  // namespace facet
