#include "common/client/link.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <utility>

#include "common/protocol/limits.h"

namespace facet {
namespace {

// Both marks bound what lies in the socket: at most this many chunks of 1 MiB.
constexpr int kSendMark = 8;
constexpr int kReceiveMark = 1000;

struct HeldBytes {
  std::shared_ptr<const void> owner;
  std::atomic<bool> is_whole{false};
};

// On ZeroMQ's thread. How it came there ZeroMQ knows; the flag says it in terms of C++.
void let_go(void*, void* hint) {
  auto* const held = static_cast<HeldBytes*>(hint);
  if (held->is_whole.load(std::memory_order_acquire)) delete held;
}

}  // namespace

Link::Link(const std::string& socket_path) : address_("ipc://" + socket_path), context_(1) {
  open();
}

void Link::open() try {
  zmq::socket_t fresh(context_, zmq::socket_type::dealer);
  fresh.set(zmq::sockopt::linger, 0);
  fresh.set(zmq::sockopt::sndhwm, kSendMark);
  fresh.set(zmq::sockopt::rcvhwm, kReceiveMark);
  fresh.set(zmq::sockopt::maxmsgsize, static_cast<std::int64_t>(kMaxWorkerMapBytes));
  fresh.set(zmq::sockopt::reconnect_ivl, 50);
  fresh.set(zmq::sockopt::reconnect_ivl_max, 1000);
  fresh.connect(address_);
  socket_ = std::move(fresh);
} catch (const zmq::error_t&) {
  socket_ = zmq::socket_t();
}

void Link::reconnect() {
  socket_ = zmq::socket_t();
  open();
}

bool Link::send(std::string_view map) {
  return send_frames(map, nullptr);
}

bool Link::send(std::string_view map, std::string_view chunk, std::shared_ptr<const void> owner) {
  auto* const held = new HeldBytes{std::move(owner)};
  held->is_whole.store(true, std::memory_order_release);
  zmq::message_t frame(const_cast<char*>(chunk.data()), chunk.size(), &let_go, held);
  return send_frames(map, &frame);
}

bool Link::send_frames(std::string_view map, zmq::message_t* chunk) {
  if (!socket_) return false;
  const auto more = chunk != nullptr ? zmq::send_flags::sndmore : zmq::send_flags::none;
  try {
    // Whole messages only: once the first frame is taken, the rest is too.
    if (!socket_.send(zmq::buffer(map), more | zmq::send_flags::dontwait)) return false;
    if (chunk != nullptr) static_cast<void>(socket_.send(*chunk, zmq::send_flags::none));
    return true;
  } catch (const zmq::error_t&) {
    return false;
  }
}

std::optional<zmq::message_t> Link::receive() try {
  if (!socket_) return std::nullopt;
  zmq::message_t first;
  if (!socket_.recv(first, zmq::recv_flags::dontwait)) return std::nullopt;
  for (bool more = first.more(); more;) {  // none is due; a later version may send some
    zmq::message_t rest;
    if (!socket_.recv(rest, zmq::recv_flags::dontwait)) break;
    more = rest.more();
  }
  return first;
} catch (const zmq::error_t&) {
  return std::nullopt;
}

bool Link::wait(Nanos timeout, bool want_send, int also_fd) {
  const short events = static_cast<short>(want_send ? ZMQ_POLLIN | ZMQ_POLLOUT : ZMQ_POLLIN);
  std::array<zmq::pollitem_t, 2> items;
  std::size_t count = 0;
  if (socket_) items[count++] = {socket_.handle(), 0, events, 0};
  if (also_fd >= 0) items[count++] = {nullptr, also_fd, ZMQ_POLLIN, 0};
  const Nanos rounded = std::max<Nanos>(timeout, 0) + kMillisecond - 1;
  try {
    zmq::poll(items.data(), count, std::chrono::milliseconds(rounded / kMillisecond));
    return true;
  } catch (const zmq::error_t& error) {
    return error.num() != EINTR;
  }
}

}  // namespace facet
