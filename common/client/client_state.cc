#include "common/client/client_state.h"

#include <algorithm>

#include "common/protocol/limits.h"

namespace facet {
namespace {

constexpr int kMessagesPerTurn = 256;  // then events go to the user and sending gets its turn
constexpr Nanos kLongWait = 3600 * kSecond;

}  // namespace

Client::State::State(std::string path, ClientOptions client_options)
    : socket_path(std::move(path)),
      options(client_options),
      link(socket_path),
      fd_link(socket_path),
      last_heard(monotonic_now()),
      last_moved(last_heard),
      jitter(std::random_device{}()) {}

void Client::State::receive_all(Nanos now) {
  for (int i = 0; i < kMessagesPerTurn; ++i) {
    auto frame = link.receive();
    if (!frame) return;
    // What this version cannot read is dropped; a token lost with it shows as a gap.
    if (const auto message = decode_broker_message(frame->to_string_view())) {
      last_heard = now;
      handle(*message, now);
    }
  }
}

void Client::State::handle(const BrokerMessage& message, Nanos now) {
  if (const auto* status = std::get_if<StatusReply>(&message)) {
    if (is_asking_status) status_json = status->json;
  } else if (const auto* accepted = std::get_if<Accepted>(&message)) {
    const auto found = pending.find(accepted->id);
    if (found == pending.end()) return;
    found->second.is_followed = true;
    found->second.epoch = accepted->epoch;
    events.emplace_back(*accepted);
  } else if (const auto* alive = std::get_if<Keepalive>(&message)) {
    keepalive(*alive, now);
  } else if (const auto* refusal = std::get_if<Refused>(&message)) {
    refused(*refusal, now);
  } else if (const auto* some = std::get_if<Tokens>(&message)) {
    tokens(*some);
  } else if (const auto* done = std::get_if<Done>(&message)) {
    if (pending.erase(done->id) > 0) events.emplace_back(*done);
  }
}

void Client::State::refused(const Refused& refusal, Nanos now) {
  const auto found = pending.find(refusal.id);
  if (found == pending.end()) return;
  PendingRequest& request = found->second;
  // Chunks on their way behind a refused one may be refused too: the first refusal counts.
  if (request.phase == PendingRequest::Phase::kBackoff) return;
  if (request.cancel_wanted) return end_cancelled(refusal.id);
  const double stretched =
      refusal.retry_after_ms * std::uniform_real_distribution<double>(1.0, 1.5)(jitter);
  const Nanos wait = static_cast<Nanos>(stretched) * kMillisecond;
  if (refusal.retry_after_ms == 0 || now + wait > request.give_up_at) {
    return fail(refusal.id, Error(refusal.code, refusal.message));
  }
  request.phase = PendingRequest::Phase::kBackoff;
  request.resume_at = now + wait;
  request.begin_again();
  events.emplace_back(Retrying{refusal.id, Error(refusal.code, refusal.message),
                               static_cast<std::uint32_t>(wait / kMillisecond)});
}

void Client::State::tokens(const Tokens& some) {
  const auto found = pending.find(some.id);
  if (found == pending.end()) return;
  if (some.index != found->second.held) {
    control.push_back(encode_message(CancelRequest{some.id}));  // nobody reads on
    return fail(some.id,
                Error(Code::kCorrupt, "token " + std::to_string(some.index) + " came where token " +
                                          std::to_string(found->second.held) + " was due"));
  }
  found->second.is_followed = true;
  found->second.held += static_cast<std::uint32_t>(some.token_ids.size());
  events.emplace_back(some);
}

// A new broker follows only the requests it was asked for: those of the former one are asked for
// again, on a new connection like after silence.
void Client::State::keepalive(const Keepalive& alive, Nanos now) {
  for (const auto& [id, request] : pending) {
    if (request.phase == PendingRequest::Phase::kWaiting && request.epoch != 0 &&
        alive.epoch != 0 && request.epoch != alive.epoch) {
      return reconnect(now);
    }
  }
}

void Client::State::fail(const RequestId& id, Error error) {
  pending.erase(id);
  events.emplace_back(Failed{id, std::move(error)});
}

void Client::State::end_cancelled(const RequestId& id) {
  pending.erase(id);
  Done done;
  done.id = id;
  done.reason = FinishReason::kCancelled;
  events.emplace_back(std::move(done));
}

void Client::State::run_timers(Nanos now) {
  bool is_silent = wants_send() && now - std::max(last_heard, last_moved) > options.silence;
  is_silent = is_silent || is_handover_overdue(now);
  for (auto& [id, request] : pending) {
    if (request.phase == PendingRequest::Phase::kWaiting) {
      const Nanos since = std::max({last_heard, last_moved, request.waiting_since});
      is_silent = is_silent || now - since > options.silence;
      // Others are answered, this one is not: its generate went to a broker that died.
      is_silent =
          is_silent || (!request.is_followed && now - request.waiting_since > 2 * options.silence);
    } else if (request.phase == PendingRequest::Phase::kBackoff && now >= request.resume_at) {
      request.phase = PendingRequest::Phase::kSending;
      outbox.push_back(id);
    }
  }
  if (!is_silent) return;
  const Status alive = check_silence(options, socket_path, now - last_heard);
  if (alive) return reconnect(now);
  std::vector<RequestId> lost;
  for (const auto& entry : pending) lost.push_back(entry.first);
  for (const RequestId& id : lost) fail(id, alive.error());
  outbox.clear();
  control.clear();
  fd_link.close(now);
  handed_over.clear();
  last_heard = now;  // the next request gets its full time
}

void Client::State::reconnect(Nanos now) {
  link.reconnect();
  fd_link.close(now);
  handed_over.clear();
  last_moved = now;
  outbox.clear();
  for (auto& [id, request] : pending) {
    if (request.phase == PendingRequest::Phase::kBackoff) continue;
    // Where generate was sent the daemon has the images, unless one was only taken; else they begin
    // again.
    const bool has_images = request.phase == PendingRequest::Phase::kWaiting;
    if (!has_images || request.unanswered > 0) request.begin_again();
    request.phase = PendingRequest::Phase::kSending;
    request.epoch = 0;
    outbox.push_back(id);
  }
}

// False: not all of it could be sent now.
bool Client::State::send_request(const RequestId& id, PendingRequest& request, Nanos now) {
  if (request.way == PendingRequest::Way::kUndecided) {
    const bool by_descriptors = request.upload.prefers_descriptors() &&
                                ++num_large > options.chunks_first && fd_link.open(now);
    request.way = by_descriptors ? PendingRequest::Way::kDescriptors : PendingRequest::Way::kChunks;
  }
  if (request.way == PendingRequest::Way::kDescriptors && !request.upload.is_at_end()) {
    return send_descriptors(id, request, now);
  }
  return send_chunks(id, request, now);
}

// What is left of the images, then the request.
bool Client::State::send_chunks(const RequestId& id, PendingRequest& request, Nanos now) {
  while (true) {
    auto chunk = request.upload.next();
    if (!chunk) {
      fail(id, chunk.error());
      return true;
    }
    if (!*chunk) break;
    if (!link.send((*chunk)->map, (*chunk)->bytes, (*chunk)->owner)) return false;
    last_moved = now;
    request.upload.advance();
  }
  request.request.next_index = request.held;
  if (!link.send(encode_message(request.request))) return false;
  last_moved = now;
  request.phase = PendingRequest::Phase::kWaiting;
  request.was_submitted = true;
  request.waiting_since = now;
  request.is_followed = false;
  if (request.cancel_wanted) control.push_back(encode_message(CancelRequest{id}));
  return true;
}

void Client::State::pump(Nanos now) {
  is_held_up = false;
  while (wants_send()) {
    while (!control.empty()) {
      if (!link.send(control.front())) return;
      last_moved = now;
      control.pop_front();
    }
    if (outbox.empty()) return;
    const RequestId id = outbox.front();
    const auto found = pending.find(id);
    const bool is_due =
        found != pending.end() && found->second.phase == PendingRequest::Phase::kSending;
    if (is_due && !send_request(id, found->second, now)) return;
    if (!outbox.empty() && outbox.front() == id) outbox.pop_front();  // a reconnect fills it anew
  }
}

Nanos Client::State::next_timer(Nanos now) const {
  Nanos next = now + kLongWait;
  for (const auto& [id, request] : pending) {
    if (request.phase == PendingRequest::Phase::kBackoff) next = std::min(next, request.resume_at);
  }
  if (!pending.empty() || !control.empty()) {
    const Nanos quiet_since = std::max(last_heard, last_moved);
    next = std::min(next, std::max(quiet_since + options.silence, now) + 10 * kMillisecond);
  }
  return next;
}

bool Client::State::turn(Nanos deadline, bool may_wait) {
  const Nanos now = monotonic_now();
  receive_all(now);
  receive_answers(now);
  run_timers(now);
  pump(now);
  if (pending.empty()) spare_memfds.clear();
  if (!may_wait || !events.empty() || status_json) return true;
  const bool can_send = !control.empty() || (!outbox.empty() && !is_held_up);
  return link.wait(std::min(deadline, next_timer(now)) - now, can_send, fd_link.fd());
}

}  // namespace facet
