// A ZeroMQ ROUTER on a listening socket inherited from the supervisor. The one place in broker/
// that knows ZeroMQ (with run_broker, which owns the context).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <zmq.hpp>

#include "common/base/result.h"

namespace facet {

class Router {
 public:
  struct Options {
    int listen_fd = -1;       // AF_UNIX stream listener; stays open, the router binds duplicates
    std::string socket_path;  // where it listens
    int receive_mark = 4;     // messages of one peer that wait here (RCVHWM)
    int send_mark = 16;       // messages to one peer that wait here (SNDHWM)
    std::int64_t max_frame_bytes = 0;
    int max_connections = 0;  // a fuse below the descriptor limit, where ZeroMQ aborts
  };

  // kInvalidArgument: the path is too long. kIo: ZeroMQ refused the listener.
  static Result<std::unique_ptr<Router>> bind(zmq::context_t& context, const Options& options);

  ~Router();
  Router(const Router&) = delete;
  Router& operator=(const Router&) = delete;

  // A whole message of one peer, its identity stripped.
  struct Message {
    std::string identity;
    zmq::message_t map;                   // frame 0
    std::optional<zmq::message_t> chunk;  // frame 1
    std::size_t num_frames = 0;           // those beyond kMaxFrames were dropped
    std::optional<std::uint32_t> user;    // of the peer, as the kernel says
  };
  // A message that is there already; never waits.
  std::optional<Message> receive();

  enum class Sent {
    kYes,
    kFull,  // the peer's pipe is at its mark: nothing was sent
    kGone,  // no such peer is connected
  };
  Sent send(std::string_view identity, std::string_view payload);

  // Counts connections that came and went. Beyond the limit all of them are cut, which is all that
  // ZeroMQ can do, and accepting starts anew: peers reconnect and ask again. True: it happened.
  bool update_connections();
  int num_connections() const { return num_connections_; }

  void linger(int milliseconds);  // before an orderly exit
  void* socket_handle() { return socket_.handle(); }
  void* monitor_handle() { return monitor_.handle(); }

 private:
  Router(zmq::context_t& context, const Options& options);
  void start_accepting();

  const Options options_;
  const std::string address_;
  zmq::socket_t socket_;
  zmq::socket_t monitor_;
  int num_connections_ = 0;
};

}  // namespace facet
