#include "worker/service/broker_link.h"

#include <sys/un.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <utility>
#include <zmq.hpp>

#include "common/base/check.h"

namespace facet {
namespace {

// Messages the socket itself may hold: a fuse far above one per step.
constexpr int kHighWaterMark = 1000;
// Nothing comes by this socket but ZeroMQ's own handshake.
constexpr std::int64_t kMaxIncomingBytes = 4096;

Error zmq_error(const char* what, const zmq::error_t& error) {
  return Error(Code::kIo, std::string(what) + ": " + error.what());
}

}  // namespace

struct BrokerLink::Sockets {
  zmq::context_t context{1};
  zmq::socket_t dealer{context, zmq::socket_type::dealer};
};

BrokerLink::BrokerLink(std::unique_ptr<Sockets> sockets) : sockets_(std::move(sockets)) {}
BrokerLink::~BrokerLink() = default;

Result<std::unique_ptr<BrokerLink>> BrokerLink::connect(const std::string& socket_path,
                                                        const std::string& identity) {
  if (socket_path.size() >= sizeof(sockaddr_un::sun_path)) {
    return Error(Code::kInvalidArgument,
                 socket_path + ": a socket's path may have " +
                     std::to_string(sizeof(sockaddr_un::sun_path) - 1) + " bytes");
  }
  try {
    auto sockets = std::make_unique<Sockets>();
    zmq::socket_t& dealer = sockets->dealer;
    dealer.set(zmq::sockopt::routing_id, identity);
    dealer.set(zmq::sockopt::linger, 0);
    dealer.set(zmq::sockopt::sndhwm, kHighWaterMark);
    dealer.set(zmq::sockopt::rcvhwm, 1);
    dealer.set(zmq::sockopt::maxmsgsize, kMaxIncomingBytes);
    dealer.set(zmq::sockopt::reconnect_ivl, 20);
    dealer.connect("ipc://" + socket_path);
    return std::unique_ptr<BrokerLink>(new BrokerLink(std::move(sockets)));
  } catch (const zmq::error_t& error) {
    return zmq_error("connect to the broker", error);
  }
}

Status BrokerLink::send(std::string message) {
  FACET_CHECK(has_room() && !message.empty());
  unsent_ = std::move(message);
  return flush();
}

Status BrokerLink::flush() {
  if (unsent_.empty()) return {};
  try {
    if (sockets_->dealer.send(zmq::buffer(unsent_), zmq::send_flags::dontwait)) unsent_.clear();
    return {};
  } catch (const zmq::error_t& error) {
    if (error.num() == EINTR) return {};
    return zmq_error("send to the broker", error);
  }
}

void BrokerLink::linger(Nanos timeout) {
  try {
    sockets_->dealer.set(zmq::sockopt::linger, static_cast<int>(timeout / kMillisecond));
  } catch (const zmq::error_t&) {
    // Then what is unsent is lost with the process, as in any other death.
  }
}

void BrokerLink::wait(Nanos timeout, std::span<const int> fds) {
  std::array<zmq::pollitem_t, 4> items{};
  FACET_CHECK(fds.size() < items.size());
  std::size_t count = 0;
  for (const int fd : fds) items[count++] = {nullptr, fd, ZMQ_POLLIN, 0};
  items[count++] = {sockets_->dealer.handle(), 0, ZMQ_POLLOUT, 0};
  try {
    zmq::poll(items.data(), count, std::chrono::milliseconds(timeout / kMillisecond));
  } catch (const zmq::error_t&) {
    // Interrupted: the caller's loop looks at everything again anyway.
  }
}

}  // namespace facet
