#include "broker/service/router.h"

#include <fcntl.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "common/base/check.h"
#include "common/protocol/limits.h"

namespace facet {
namespace {

constexpr int kMonitoredEvents = ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED;

// Never used twice: a closed socket gives its address back only after a while.
std::string next_monitor_address() {
  static std::uint64_t count = 0;
  return "inproc://router-monitor-" + std::to_string(count++);
}

// ZeroMQ asks the kernel once for each connection (SO_PEERCRED) and puts "localhost:UID:GID:PID"
// into this property of every message that comes by it.
std::optional<std::uint32_t> user_of(zmq::message_t& frame) {
  const char* address = zmq_msg_gets(frame.handle(), "Peer-Address");
  if (address == nullptr) return std::nullopt;
  const char* const end = address + std::strlen(address);
  const char* const colon = std::find(address, end, ':');
  std::uint32_t user = 0;
  if (colon == end) return std::nullopt;
  const auto [rest, error] = std::from_chars(colon + 1, end, user);
  if (error != std::errc{} || rest == end || *rest != ':') return std::nullopt;
  return user;
}

}  // namespace

Router::Router(zmq::context_t& context, const Options& options)
    : options_(options),
      address_("ipc://" + options.socket_path),
      socket_(context, zmq::socket_type::router),
      monitor_(context, zmq::socket_type::pair) {
  socket_.set(zmq::sockopt::router_mandatory, true);  // or what cannot be sent vanishes unseen
  socket_.set(zmq::sockopt::linger, 0);
  socket_.set(zmq::sockopt::rcvhwm, options.receive_mark);
  socket_.set(zmq::sockopt::sndhwm, options.send_mark);
  socket_.set(zmq::sockopt::maxmsgsize, options.max_frame_bytes);
  const std::string monitor_address = next_monitor_address();
  if (zmq_socket_monitor(socket_.handle(), monitor_address.c_str(), kMonitoredEvents) != 0) {
    throw zmq::error_t();
  }
  monitor_.set(zmq::sockopt::linger, 0);
  monitor_.set(zmq::sockopt::rcvhwm, 0);  // the I/O thread must never wait for us
  monitor_.connect(monitor_address);
}

Router::~Router() {
  // Events sent into a socket that is being closed would be leaked: stop them, take what is there.
  zmq_socket_monitor(socket_.handle(), nullptr, 0);
  try {
    zmq::message_t event;
    while (monitor_.recv(event, zmq::recv_flags::dontwait)) {
    }
  } catch (const zmq::error_t&) {
    // Nothing more to be had.
  }
}

Result<std::unique_ptr<Router>> Router::bind(zmq::context_t& context, const Options& options) {
  if (options.socket_path.size() >= sizeof(sockaddr_un::sun_path)) {
    return Error(Code::kInvalidArgument,
                 options.socket_path + ": a socket's path may have " +
                     std::to_string(sizeof(sockaddr_un::sun_path) - 1) + " bytes");
  }
  // A blocking listener could stop ZeroMQ's I/O thread when a peer gives up before accept().
  const int flags = fcntl(options.listen_fd, F_GETFL);
  if (flags < 0 || fcntl(options.listen_fd, F_SETFL, flags | O_NONBLOCK) < 0) {
    return errno_error("listener " + std::to_string(options.listen_fd), errno);
  }
  try {
    std::unique_ptr<Router> router(new Router(context, options));
    router->start_accepting();
    return router;
  } catch (const zmq::error_t& error) {
    return Error(Code::kIo, options.socket_path + ": " + error.what());
  }
}

void Router::start_accepting() {
  const int copy = fcntl(options_.listen_fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) throw zmq::error_t();
  socket_.set(zmq::sockopt::use_fd, copy);  // closed by ZeroMQ with the listener
  socket_.bind(address_);
}

std::optional<Router::Message> Router::receive() {
  try {
    zmq::message_t frame;
    if (!socket_.recv(frame, zmq::recv_flags::dontwait)) return std::nullopt;
    Message message;
    message.identity = frame.to_string();
    // A message is delivered whole: its further frames are there.
    bool more = frame.more();
    while (more) {
      if (!socket_.recv(frame, zmq::recv_flags::none)) return std::nullopt;
      more = frame.more();
      ++message.num_frames;
      if (message.num_frames == 1) {
        message.user = user_of(frame);
        message.map.move(frame);
      } else if (message.num_frames == 2) {
        message.chunk.emplace();
        message.chunk->move(frame);
      }
    }
    return message;
  } catch (const zmq::error_t& error) {
    FACET_CHECK_MSG(error.num() == EINTR || error.num() == EAGAIN, error.what());
    return std::nullopt;
  }
}

Router::Sent Router::send(std::string_view identity, std::string_view payload) {
  try {
    const auto to = zmq::buffer(identity);
    if (!socket_.send(to, zmq::send_flags::sndmore | zmq::send_flags::dontwait)) return Sent::kFull;
    // The peer's pipe is chosen and has room: this frame follows into it.
    const bool sent = socket_.send(zmq::buffer(payload), zmq::send_flags::dontwait).has_value();
    return sent ? Sent::kYes : Sent::kFull;
  } catch (const zmq::error_t& error) {
    if (error.num() == EHOSTUNREACH) return Sent::kGone;
    FACET_CHECK_MSG(error.num() == EINTR, error.what());
    return Sent::kFull;
  }
}

bool Router::update_connections() {
  try {
    zmq::message_t event;
    while (monitor_.recv(event, zmq::recv_flags::dontwait)) {
      std::uint16_t kind = 0;
      if (event.size() >= sizeof kind) std::memcpy(&kind, event.data(), sizeof kind);
      if (kind == ZMQ_EVENT_ACCEPTED) ++num_connections_;
      if (kind == ZMQ_EVENT_DISCONNECTED && num_connections_ > 0) --num_connections_;
      while (event.more() && monitor_.recv(event, zmq::recv_flags::none)) {
      }
    }
    if (num_connections_ <= options_.max_connections) return false;
    socket_.unbind(address_);  // ends the listener's connections too, without an event
    num_connections_ = 0;
    start_accepting();
    return true;
  } catch (const zmq::error_t& error) {
    FACET_CHECK_MSG(error.num() == EINTR, error.what());
    return false;
  }
}

void Router::linger(int milliseconds) { socket_.set(zmq::sockopt::linger, milliseconds); }

}  // namespace facet
