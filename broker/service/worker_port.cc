#include "broker/service/worker_port.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "broker/service/service_limits.h"
#include "common/base/check.h"
#include "common/protocol/codec.h"

namespace facet {

std::optional<WorkerIdentity> parse_worker_identity(std::string_view text) {
  WorkerIdentity identity;
  const char* const end = text.data() + text.size();
  const auto index = std::from_chars(text.data(), end, identity.worker);
  if (index.ec != std::errc{} || index.ptr == end || *index.ptr != '.') return std::nullopt;
  const auto life = std::from_chars(index.ptr + 1, end, identity.incarnation);
  if (life.ec != std::errc{} || life.ptr == end || *life.ptr != '.') return std::nullopt;
  const auto epoch = std::from_chars(life.ptr + 1, end, identity.epoch);
  if (epoch.ec != std::errc{} || epoch.ptr != end) return std::nullopt;
  return identity;
}

std::string format_worker_identity(const WorkerIdentity& identity) {
  return std::to_string(identity.worker) + "." + std::to_string(identity.incarnation) + "." +
         std::to_string(identity.epoch);
}

void WorkerPort::open(std::uint32_t worker, std::uint64_t incarnation, MailboxFds mailbox) {
  if (worker >= peers_.size()) return;
  auto writer = MailboxWriter::attach(std::move(mailbox), epoch_);
  Peer& peer = peers_[worker];
  peer.incarnation = incarnation;
  peer.mailbox.reset();
  if (writer) {
    peer.mailbox.emplace(std::move(*writer));
  } else {
    spdlog::error("no_mailbox worker={} incarnation={} error=\"{}\"", worker, incarnation,
                  writer.error().message);
  }
}

bool WorkerPort::receive(std::optional<Event>& event) {
  event.reset();
  const auto message = router_.receive();
  if (!message) return false;
  const auto from = parse_worker_identity(message->identity);
  if (from && from->worker < peers_.size()) {
    event = decode(*from, *message);
    return true;
  }
  ++malformed_;
  std::uint64_t skipped = 0;
  if (log_limiter_.allow(monotonic_now(), skipped)) {
    spdlog::warn("stranger_on_worker_socket identity_bytes={} skipped={}", message->identity.size(),
                 skipped);
  }
  return true;
}

std::optional<Event> WorkerPort::decode(const WorkerIdentity& from,
                                        const Router::Message& message) {
  std::string problem;
  if (message.num_frames != 1) {
    problem = std::to_string(message.num_frames) + " frames, not 1";
  } else if (auto decoded = decode_worker_message(message.map.to_string_view()); !decoded) {
    problem = decoded.error().message;
  } else if (auto* hello = std::get_if<Hello>(&*decoded)) {
    if (hello->worker == from.worker && hello->incarnation == from.incarnation) {
      if (from.epoch == epoch_) peers_[from.worker].greeted = from.incarnation;
      return WorkerHello{std::move(*hello), from.epoch};
    }
    problem = "hello in another worker's name";
  } else {
    Step& step = std::get<Step>(*decoded);
    if (step.incarnation == from.incarnation) {
      return WorkerStep{from.worker, std::move(step), from.epoch};
    }
    problem = "step of another incarnation";
  }
  ++malformed_;
  spdlog::error("worker_broke_protocol worker={} incarnation={} error=\"{}\"", from.worker,
                from.incarnation, problem);
  return WorkerUnreachable{from.worker, from.incarnation};
}

std::optional<Event> WorkerPort::send(const SendResume& action, Nanos now) {
  return send(action.worker, action.incarnation, encode_message(action.resume), now);
}

std::optional<Event> WorkerPort::send(const SendAck& action, Nanos now) {
  return send(action.worker, action.incarnation, encode_message(action.ack), now);
}

std::optional<Event> WorkerPort::send(const SendDispatch& action, Nanos now) {
  encode_message(action.dispatch, encoded_);
  return send(action.worker, action.incarnation, encoded_, now);
}

std::optional<Event> WorkerPort::send(const SendCancel& action, Nanos now) {
  return send(action.worker, action.incarnation, encode_message(action.cancel), now);
}

std::optional<Event> WorkerPort::send(const SendDrain& action, Nanos now) {
  return send(action.worker, action.incarnation, encode_message(Drain{}), now);
}

std::optional<Event> WorkerPort::send(std::uint32_t worker, std::uint64_t incarnation,
                                      std::string_view payload, Nanos now) {
  FACET_CHECK(worker < peers_.size());
  Peer& peer = peers_[worker];
  if (peer.mailbox && peer.incarnation == incarnation && peer.greeted == incarnation) {
    return told(worker, peer.mailbox->send(payload));
  }
  const WorkerIdentity to{worker, incarnation, epoch_};
  if (std::none_of(lost_.begin(), lost_.end(), [&](const Lost& l) { return l.worker == to; })) {
    lost_.push_back({to, now + kVerdictGrace});
  }
  return std::nullopt;
}

std::optional<Event> WorkerPort::told(std::uint32_t worker, const Status& status) {
  if (status) return std::nullopt;
  Peer& peer = peers_[worker];
  spdlog::error("worker_takes_nothing worker={} incarnation={} error=\"{}\"", worker,
                peer.incarnation, status.error().message);
  peer.mailbox.reset();
  return WorkerUnreachable{worker, peer.incarnation};
}

std::optional<Event> WorkerPort::flush() {
  for (std::uint32_t worker = 0; worker < peers_.size(); ++worker) {
    Peer& peer = peers_[worker];
    if (!peer.mailbox || !peer.mailbox->has_waiting()) continue;
    if (auto failed = told(worker, peer.mailbox->flush())) return failed;
  }
  return std::nullopt;
}

void WorkerPort::forget(std::uint32_t worker, std::uint64_t incarnation) {
  std::erase_if(lost_, [&](const Lost& lost) {
    return lost.worker.worker == worker && lost.worker.incarnation == incarnation;
  });
  if (worker < peers_.size() && peers_[worker].incarnation == incarnation) {
    peers_[worker].mailbox.reset();
  }
}

std::optional<Event> WorkerPort::take_overdue(Nanos now) {
  if (lost_.empty() || lost_.front().due > now) return std::nullopt;
  const WorkerIdentity worker = lost_.front().worker;
  lost_.erase(lost_.begin());
  return WorkerUnreachable{worker.worker, worker.incarnation};
}

std::optional<Nanos> WorkerPort::next_deadline(Nanos now) const {
  const bool has_waiting = std::any_of(peers_.begin(), peers_.end(), [](const Peer& peer) {
    return peer.mailbox && peer.mailbox->has_waiting();
  });
  if (has_waiting) return now + kMailboxRetry;
  if (lost_.empty()) return std::nullopt;
  return lost_.front().due;
}

}  // namespace facet
