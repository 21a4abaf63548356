#include "common/client/link.h"

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "common/protocol/limits.h"

namespace facet {
namespace {

// Both marks bound what lies in the socket: at most this many chunks of 1 MiB.
constexpr int kSendMark = 8;
constexpr int kReceiveMark = 1000;

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

bool Link::send(std::string_view map, std::optional<std::string_view> chunk) {
  if (!socket_) return false;
  const auto more = chunk ? zmq::send_flags::sndmore : zmq::send_flags::none;
  try {
    // Whole messages only: once the first frame is taken, the rest is too.
    if (!socket_.send(zmq::buffer(map), more | zmq::send_flags::dontwait)) return false;
    if (chunk) static_cast<void>(socket_.send(zmq::buffer(*chunk), zmq::send_flags::none));
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

bool Link::wait(Nanos timeout, bool want_send) {
  const short events = static_cast<short>(want_send ? ZMQ_POLLIN | ZMQ_POLLOUT : ZMQ_POLLIN);
  zmq::pollitem_t item{socket_.handle(), 0, events, 0};
  const Nanos rounded = std::max<Nanos>(timeout, 0) + kMillisecond - 1;
  try {
    zmq::poll(&item, socket_ ? 1 : 0, std::chrono::milliseconds(rounded / kMillisecond));
    return true;
  } catch (const zmq::error_t& error) {
    return error.num() != EINTR;
  }
}

}  // namespace facet
