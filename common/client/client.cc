#include "common/client/client.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "common/base/unique_fd.h"
#include "common/client/client_state.h"
#include "common/protocol/limits.h"

namespace facet {

Status check_socket(const std::string& socket_path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket_path.empty() || socket_path.size() >= sizeof address.sun_path) {
    return Error(Code::kInvalidArgument, "socket path of " + std::to_string(socket_path.size()) +
                                             " bytes: the system allows 1 to " +
                                             std::to_string(sizeof address.sun_path - 1) + ": " +
                                             socket_path);
  }
  std::memcpy(address.sun_path, socket_path.data(), socket_path.size());
  const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe) return errno_error("socket", errno);
  if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ||
      errno == EAGAIN) {  // EAGAIN: its backlog is full, so there is a listener
    return {};
  }
  if (errno == ECONNREFUSED) return Error(Code::kClosed, socket_path + ": nobody listens there");
  return errno_error(socket_path, errno);
}

Status check_silence(const ClientOptions& options, const std::string& socket_path, Nanos silent) {
  const bool is_deserted = silent > options.deserted_after && !check_socket(socket_path);
  if (silent <= options.lost_after && !is_deserted) return {};
  return Error(Code::kClosed, "no sign of life from the daemon at " + socket_path + " for " +
                                  std::to_string(silent / kSecond) + " s");
}

Result<Client> Client::connect(const std::string& socket_path, ClientOptions options) try {
  FACET_TRY_STATUS(check_socket(socket_path));
  return Client(std::make_unique<State>(socket_path, options));
} catch (const zmq::error_t& error) {
  return Error(Code::kIo, "ZeroMQ: " + std::string(error.what()));
}

Client::Client(std::unique_ptr<State> state) : state_(std::move(state)) {}
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;
Client::~Client() = default;

Result<RequestId> Client::submit(GenerateRequest request, std::vector<ImageSource> images) {
  if (request.id.is_zero()) request.id = RequestId::random();
  request.num_images = static_cast<std::uint32_t>(images.size());
  const RequestId id = request.id;
  if (state_->pending.contains(id)) {
    return Error(Code::kInvalidArgument, "id " + id.hex() + " is in use");
  }
  // The broker's own checks, so that a mistake is named here and nothing is sent.
  const auto checked = decode_client_message(encode_message(request));
  if (!checked) return checked.error();
  const Nanos now = monotonic_now();
  PendingRequest pending{.request = request, .upload = Upload(id, std::move(images))};
  pending.held = request.next_index;
  pending.give_up_at = now + state_->options.retry_for;
  if (state_->pending.empty()) state_->last_moved = now;  // silence counts from here
  state_->pending.emplace(id, std::move(pending));
  state_->outbox.push_back(id);
  return id;
}

void Client::cancel(const RequestId& id) {
  const auto found = state_->pending.find(id);
  if (found == state_->pending.end() || found->second.cancel_wanted) return;
  PendingRequest& request = found->second;
  if (!request.was_submitted || request.phase == PendingRequest::Phase::kBackoff) {
    return state_->end_cancelled(id);  // the daemon has not accepted it
  }
  request.cancel_wanted = true;
  if (request.phase == PendingRequest::Phase::kWaiting) {
    state_->control.push_back(encode_message(CancelRequest{id}));
  }
}

std::vector<ClientEvent> Client::poll(Nanos timeout) {
  const Nanos deadline = monotonic_now() + timeout;
  bool may_wait = timeout > 0;
  while (true) {
    const bool go_on = state_->turn(deadline, may_wait);
    if (!state_->events.empty() || !may_wait || !go_on) break;
    if (monotonic_now() >= deadline) may_wait = false;  // one last look
  }
  return std::exchange(state_->events, {});
}

Result<std::string> Client::status(Nanos timeout) {
  const Nanos deadline = monotonic_now() + timeout;
  state_->is_asking_status = true;
  state_->control.push_back(encode_message(StatusQuery{}));
  std::vector<ClientEvent> kept;  // for the next poll
  while (!state_->status_json && monotonic_now() < deadline) {
    state_->turn(deadline, true);
    for (auto& event : state_->events) kept.push_back(std::move(event));
    state_->events.clear();
  }
  state_->events = std::move(kept);
  state_->is_asking_status = false;
  if (!state_->status_json) {
    return Error(Code::kTimeout, state_->socket_path + ": no answer within " +
                                     std::to_string(timeout / kMillisecond) + " ms");
  }
  return *std::exchange(state_->status_json, std::nullopt);
}

std::size_t Client::num_unfinished() const {
  return state_->pending.size();
}

}  // namespace facet
