#include "broker/service/broker_service.h"

#include <spdlog/spdlog.h>
#include <zmq.h>

#include <algorithm>
#include <array>
#include <utility>

#include "broker/service/service_limits.h"
#include "broker/service/takeover_packets.h"
#include "common/base/check.h"
#include "common/base/crash_point.h"
#include "common/control/fds.h"

namespace facet {

BrokerService::BrokerService(const Parts& parts)
    : core_(parts.core),
      client_router_(parts.client_router),
      worker_router_(parts.worker_router),
      control_(parts.control),
      clients_(parts.client_router, parts.client_limits,
               [this](Event event) { feed(std::move(event)); },
               [this] {
                 return status_json(core_.status(), facts_, clients_.counters(),
                                    {.connections = client_router_.num_connections(),
                                     .fd_connections = fds_.num_connections(),
                                     .fds = fds_.counters(),
                                     .malformed_from_workers = workers_.num_malformed(),
                                     .config_generation = config_generation_,
                                     .idle = core_.is_idle(),
                                     .conservation = audit_.verdict()});
               }),
      fds_(parts.fd_listener, parts.fd_limits,
           [this](Event event) { feed(std::move(event)); }),
      workers_(parts.worker_router, parts.num_workers, parts.epoch),
      facts_(parts.facts),
      audit_([this] { return core_.check_conservation(); }),
      read_limits_(parts.read_limits),
      epoch_(parts.epoch),
      config_generation_(parts.config_generation) {}

int BrokerService::run() {
  auto takeover = receive_takeover(control_, workers_);
  if (!takeover) {
    spdlog::warn("broker_stops error=\"{}\"", takeover.error().message);
    return takeover.error().code == Code::kClosed ? kExitOk : kExitFailure;
  }
  FACET_CRASH_POINT("takeover.received");
  execute(core_.recover(*takeover, monotonic_now()));
  FACET_CRASH_POINT("recovery.ready");
  control_.send({.kind = ControlKind::kBrokerReady, .incarnation = epoch_});
  while (true) {
    wait();
    if (Status status = serve_once(); !status) {
      spdlog::warn("broker_stops code={} error=\"{}\"", code_name(status.error().code),
                   status.error().message);
      return status.error().code == Code::kClosed ? kExitOk : kExitFailure;
    }
    if (retiring_ || is_drained()) {
      spdlog::info(retiring_ ? "broker_retires" : "broker_drained");
      client_router_.linger(kDrainLingerMs);
      return kExitOk;
    }
  }
}

void BrokerService::wait() {
  const Nanos now = monotonic_now();
  Nanos timeout = std::max<Nanos>(0, status_due_ - now);
  for (const auto& deadline : {core_.next_deadline(), workers_.next_deadline(now)}) {
    if (deadline) timeout = std::min(timeout, std::max<Nanos>(0, *deadline - now));
  }
  if (more_waits_) timeout = 0;
  const auto decoder_events =
      static_cast<short>(decoder_.has_unsent() ? ZMQ_POLLIN | ZMQ_POLLOUT : ZMQ_POLLIN);
  const auto control_events =
      static_cast<short>(control_.has_unsent() ? ZMQ_POLLIN | ZMQ_POLLOUT : ZMQ_POLLIN);
  std::array<zmq_pollitem_t, 7> items = {{
      {client_router_.socket_handle(), 0, ZMQ_POLLIN, 0},
      {worker_router_.socket_handle(), 0, ZMQ_POLLIN, 0},
      {client_router_.monitor_handle(), 0, ZMQ_POLLIN, 0},
      {worker_router_.monitor_handle(), 0, ZMQ_POLLIN, 0},
      {nullptr, control_.fd(), control_events, 0},
  }};
  int count = 5;
  const auto watch = [&](int fd, short events) {
    if (fd >= 0) items[static_cast<std::size_t>(count++)] = {nullptr, fd, events, 0};
  };
  watch(decoder_.fd(), decoder_events);
  watch(fds_.poll_fd(), ZMQ_POLLIN);
  // Rounded up: a deadline half a millisecond away must not become a busy loop.
  // Interrupted or not, the loop looks at everything again.
  zmq_poll(items.data(), count, static_cast<long>((timeout + kMillisecond - 1) / kMillisecond));
}

// The loop turns at least twice a second, so a longer gap is no rest.
void BrokerService::notice_pause() {
  const Nanos now = monotonic_now();
  const Nanos gap = now - std::exchange(turned_at_, now);
  if (gap == now || gap < kPauseOfOurOwn) return;
  spdlog::warn("broker_paused seconds={:.1f}", static_cast<double>(gap) / kSecond);
  feed(Paused{gap});
}

Status BrokerService::serve_once() {
  notice_pause();
  FACET_TRY_STATUS(receive_control());
  control_.flush();
  decoder_.flush();
  receive_decoder();
  if (client_router_.update_connections()) spdlog::error("client_connections_cut reason=too_many");
  if (worker_router_.update_connections()) spdlog::error("worker_connections_cut reason=too_many");
  while (auto failed = workers_.flush()) feed(std::move(*failed));
  more_waits_ = receive_workers();
  if (!fds_.has_taken()) {
    more_waits_ = receive_clients() || more_waits_;
    fds_.allow_taken();
  }
  more_waits_ = fds_.receive(monotonic_now()) || more_waits_;
  tick_timers();
  return {};
}

Status BrokerService::receive_control() {
  while (true) {
    auto received = FACET_TRY(control_.receive());
    if (!received) return {};
    on_control(std::move(*received));
  }
}

void BrokerService::on_control(ControlChannel::Received received) {
  const ControlPacket& packet = received.packet;
  switch (packet.kind) {
    case ControlKind::kWorkerStarted:
      spdlog::info("worker_started worker={} incarnation={} pid={}", packet.worker,
                   packet.incarnation, packet.pid);
      workers_.open(packet.worker, packet.incarnation,
                    {std::move(received.fds[0]), std::move(received.fds[1])});
      feed(WorkerStarted{packet.worker, packet.incarnation, packet.pid});
      break;
    case ControlKind::kWorkerDead:
      spdlog::info("worker_dead worker={} incarnation={} own_fault={} exit_code={}", packet.worker,
                   packet.incarnation, packet.own_fault, packet.exit_code);
      workers_.forget(packet.worker, packet.incarnation);
      feed(WorkerDead{packet.worker, packet.incarnation, packet.own_fault != 0, packet.exit_code});
      break;
    case ControlKind::kWorkerReaped:
      workers_.forget(packet.worker, packet.incarnation);
      feed(WorkerReaped{packet.worker, packet.incarnation});
      break;
    case ControlKind::kWorkerDisabled:
      spdlog::error("worker_disabled worker={} exit_code={}", packet.worker, packet.value);
      feed(WorkerDisabled{packet.worker, static_cast<std::int32_t>(packet.value)});
      break;
    case ControlKind::kDecoderStarted:
      spdlog::info("decoder_started pid={}", packet.pid);
      decoder_.open(std::move(received.fds[0]));
      feed(DecoderUp{});
      break;
    case ControlKind::kDecoderReaped:
      spdlog::info("decoder_reaped");
      receive_decoder();  // answers it gave before its end still count
      decoder_.close();
      feed(DecoderReaped{});
      break;
    case ControlKind::kDrain:
      spdlog::info("draining unfinished={}", core_.num_unfinished());
      draining_ = true;
      feed(DrainStarted{});
      status_due_ = 0;  // the supervisor tells people how many there are
      break;
    case ControlKind::kUndrain:
      spdlog::info("drain_taken_back unfinished={}", core_.num_unfinished());
      draining_ = false;
      feed(DrainEnded{});
      break;
    case ControlKind::kRetire:
      spdlog::info("retiring unfinished={}", core_.num_unfinished());
      retiring_ = true;
      break;
    case ControlKind::kConfig:
      read_config(packet.value);
      break;
    case ControlKind::kDrainWorker:
      spdlog::info("worker_drains worker={} incarnation={}", packet.worker, packet.incarnation);
      feed(WorkerDrain{packet.worker, packet.incarnation});
      break;
    default:
      spdlog::error("unknown_control_packet kind={}", static_cast<std::uint32_t>(packet.kind));
  }
}

// The supervisor has checked it: a failure is the file system's. A broker keeps what it has then.
void BrokerService::read_config(std::uint32_t generation) {
  if (generation == config_generation_) return;  // what it has started with
  auto limits = read_limits_();
  if (!limits) {
    spdlog::error("configuration_unreadable generation={} error=\"{}\"", generation,
                  limits.error().message);
    return;
  }
  config_generation_ = generation;
  spdlog::info("configuration_read generation={}", generation);
  feed(std::move(*limits));
}

void BrokerService::receive_decoder() {
  while (auto reply = decoder_.receive()) {
    FACET_CRASH_POINT("decode.replied");
    feed(DecoderReply{*reply});
  }
}

bool BrokerService::receive_workers() {
  std::optional<Event> event;
  for (int i = 0; i < kWorkerBurst; ++i) {
    if (!workers_.receive(event)) return false;
    if (!event) continue;
    // A worker can be faster than our look at the control socket: its start comes first.
    if (std::holds_alternative<WorkerHello>(*event)) {
      FACET_CRASH_POINT("hello.received");
      if (!receive_control()) return false;  // the next round sees the supervisor's end again
      const Hello& hello = std::get<WorkerHello>(*event).hello;
      spdlog::info("worker_hello worker={} incarnation={} model={} credits={}", hello.worker,
                   hello.incarnation, hello.model.name, hello.credits);
    }
    feed(std::move(*event));
  }
  return true;
}

bool BrokerService::receive_clients() {
  for (int i = 0; i < kClientBurst; ++i) {
    if (!clients_.receive(monotonic_now())) return false;
  }
  return true;
}

void BrokerService::tick_timers() {
  const Nanos now = monotonic_now();
  if (const auto deadline = core_.next_deadline(); deadline && *deadline <= now) feed(TimerTick{});
  while (auto overdue = workers_.take_overdue(now)) feed(std::move(*overdue));
  if (now >= status_due_) report_status();
}

void BrokerService::report_status() {
  status_due_ = monotonic_now() + kStatusInterval;
  if (control_.has_unsent()) return;  // the supervisor has not read the last one
  const auto unfinished = std::min<std::uint64_t>(core_.num_unfinished(), UINT32_MAX);
  control_.send({.kind = ControlKind::kStatus, .value = static_cast<std::uint32_t>(unfinished)});
}

void BrokerService::feed(Event event) {
  FACET_CHECK_MSG(!feeding_, "actions must queue what they have to tell");
  feeding_ = true;
  events_.push_back(std::move(event));
  while (!events_.empty()) {
    Event next = std::move(events_.front());
    events_.pop_front();
    execute(core_.step(std::move(next), monotonic_now()));
  }
  feeding_ = false;
}

void BrokerService::execute(std::vector<Action> actions) {
  clients_.begin_actions();
  for (Action& action : actions) {
    std::visit([this](auto& a) { on(a); }, action);
  }
}

void BrokerService::on(SendClient& action) {
  if (FdPort::is_token(action.client)) {
    fds_.send(action, events_);
  } else {
    clients_.send(std::move(action), monotonic_now(), events_);
  }
  FACET_CRASH_POINT("client.told");
}

void BrokerService::on(const SendDispatch& action) {
  if (auto failed = workers_.send(action, monotonic_now())) events_.push_back(std::move(*failed));
  FACET_CRASH_POINT("dispatch.sent");
}

void BrokerService::on(const SendCancel& action) {
  if (auto failed = workers_.send(action, monotonic_now())) events_.push_back(std::move(*failed));
  FACET_CRASH_POINT("cancel.sent");
}

void BrokerService::on(const SendResume& action) {
  if (auto failed = workers_.send(action, monotonic_now())) events_.push_back(std::move(*failed));
  FACET_CRASH_POINT("resume.sent");
}

void BrokerService::on(const SendAck& action) {
  if (auto failed = workers_.send(action, monotonic_now())) events_.push_back(std::move(*failed));
  FACET_CRASH_POINT("ack.sent");
}

void BrokerService::on(const SendDrain& action) {
  spdlog::info("worker_drained worker={} incarnation={}", action.worker, action.incarnation);
  if (auto failed = workers_.send(action, monotonic_now())) events_.push_back(std::move(*failed));
}

void BrokerService::on(const SendDecodeJob& action) {
  decoder_.send(action.job);
  FACET_CRASH_POINT("decode.sent");
}

void BrokerService::on(const KillWorker& action) {
  spdlog::warn("kill_worker worker={} incarnation={} why=\"{}\"", action.worker,
               action.incarnation, action.why);
  control_.send({.kind = ControlKind::kKillWorker,
                 .worker = action.worker,
                 .incarnation = action.incarnation});
}

void BrokerService::on(const KillDecoder&) {
  control_.send({.kind = ControlKind::kKillDecoder});
}

void BrokerService::on(const WorkerFirstStep& action) {
  control_.send({.kind = ControlKind::kWorkerFinishedStep,
                 .worker = action.worker,
                 .incarnation = action.incarnation});
}

void BrokerService::on(const LogLine& action) {
  switch (action.level) {
    case LogLine::Level::kInfo: spdlog::info("{}", action.text); break;
    case LogLine::Level::kWarn: spdlog::warn("{}", action.text); break;
    case LogLine::Level::kError: spdlog::error("{}", action.text); break;
  }
}

bool BrokerService::is_drained() const { return draining_ && core_.is_drained(monotonic_now()); }

}  // namespace facet
