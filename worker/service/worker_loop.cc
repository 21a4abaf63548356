#include "worker/service/worker_loop.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <utility>
#include <variant>

#include "common/base/crash_point.h"
#include "common/control/fds.h"
#include "common/protocol/codec.h"
#include "common/protocol/limits.h"
#include "worker/service/mail_wait.h"
#include "worker/service/process_life.h"

namespace facet {
namespace {

// Longest rest of an idle worker: it shows a sign of life and looks for a new broker this often.
constexpr Nanos kIdleRest = kSecond / 10;
// The same while no broker serves, which is short.
constexpr Nanos kBrokerlessRest = 20 * kMillisecond;
// Tokens kept for a broker that has not acknowledged them. Beyond, the engine waits: with their
// texts some 16 MiB, 44 MiB more if all ask for the most logprobs.
constexpr std::size_t kMaxKeptTokens = 1 << 18;
// Tokens of one Step message; a step of all lanes has far fewer, a new broker may ask for many.
constexpr std::size_t kMaxStepTokens = 1 << 14;
// The broker watches deadlines, too, and ends requests at theirs; this one holds without it.
Nanos deadline_of(const Dispatch& command) {
  if (command.request.deadline_ms == 0) return 0;
  return monotonic_now() + Nanos{command.request.deadline_ms} * kMillisecond;
}

// Time for the last step's message to reach the broker when a drained worker exits.
constexpr Nanos kDrainLinger = 2 * kSecond;

}  // namespace

WorkerLoop::WorkerLoop(Identity identity, Engine& engine, const Surroundings& around)
    : identity_(std::move(identity)), engine_(engine), around_(around) {}

int WorkerLoop::run() {
  Status status;
  if (engine_.is_settled()) around_.page.set_settled();
  around_.page.tick(WorkerPhase::kIdle);
  while (status && !is_supervisor_gone(around_.lifeline_fd)) {
    status = follow_broker();
    if (status) status = receive_all();
    if (status) status = work();
    if (is_done()) {
      spdlog::info("worker_drained worker={}", identity_.worker);
      link_->linger(kDrainLinger);
      return kExitOk;
    }
  }
  if (status) {
    spdlog::warn("worker_orphaned worker={}", identity_.worker);
    return kExitFailure;
  }
  spdlog::error("worker_failed worker={} code={} error=\"{}\"", identity_.worker,
                code_name(status.error().code), status.error().message);
  return kExitEngine;
}

Status WorkerLoop::follow_broker() {
  const std::uint64_t now = around_.broker.now();
  if (now == epoch_) return {};
  if (is_connected()) {
    spdlog::warn("broker_lost worker={} epoch={} kept_tokens={}", identity_.worker, epoch_,
                 log_.num_tokens());
  }
  link_.reset();
  is_resumed_ = false;
  epoch_ = now;
  FACET_CRASH_POINT("worker.broker_lost");
  if (epoch_ == 0) return {};
  link_ = FACET_TRY(
      BrokerLink::connect(identity_.socket_path, std::to_string(identity_.worker) + "." +
                                                     std::to_string(identity_.incarnation) + "." +
                                                     std::to_string(epoch_)));
  FACET_TRY_STATUS(say_hello());
  FACET_CRASH_POINT("worker.hello_sent");
  around_.page.set_ready();
  return {};
}

Status WorkerLoop::say_hello() {
  Hello hello;
  hello.worker = identity_.worker;
  hello.incarnation = identity_.incarnation;
  hello.pid = static_cast<std::uint32_t>(getpid());
  hello.credits = engine_.capacity();
  hello.is_settled = engine_.is_settled();
  hello.model = engine_.facts();
  FACET_CRASH_POINT("worker.hello");
  hello.held = log_.held();
  spdlog::info("hello worker={} epoch={} held={}", identity_.worker, epoch_, hello.held.size());
  return link_->send(encode_message(hello));
}

Status WorkerLoop::receive_all() {
  while (true) {  // without a broker (epoch 0), too: what a former one has left is dropped
    auto message = FACET_TRY(around_.mailbox.receive(epoch_, kMaxWorkerMapBytes));
    // Looked at after the message was there: what a broker said that is gone by now is void.
    if (!message || around_.broker.now() != epoch_) return {};
    FACET_TRY_STATUS(handle(*message));
  }
}

Status WorkerLoop::handle(std::string_view message) {
  WorkerCommand command = FACET_TRY(decode_worker_command(message));
  if (auto* work = std::get_if<Dispatch>(&command)) {
    dispatch(std::move(*work));
  } else if (const auto* stop = std::get_if<CancelSequence>(&command)) {
    cancel(*stop);
  } else if (const auto* points = std::get_if<Resume>(&command)) {
    return resume(*points);
  } else if (const auto* ack = std::get_if<StepAck>(&command)) {
    log_.acknowledge(ack->step);
    FACET_CRASH_POINT("worker.acknowledged");
  } else {
    draining_ = true;
    around_.page.tick(WorkerPhase::kDraining);
  }
  return {};
}

void WorkerLoop::dispatch(Dispatch command) {
  const RequestId id = command.request.id;
  const auto held = held_.find(id);
  if (held != held_.end() && held->second >= command.attempt) {
    spdlog::warn("dispatch_repeated request={} attempt={}", id.hex(), command.attempt);
    return;
  }
  if (held != held_.end()) engine_.cancel(id, held->second);
  if (held == held_.end() && held_.size() >= engine_.capacity()) {
    end_early(command, SequenceEnd::Kind::kPreempted,
              Error(Code::kExhausted, "the worker holds as many requests as it granted"));
    return;
  }
  FACET_CRASH_POINT("worker.dispatch");
  auto images = around_.gate.open(command.images);
  if (!images) {
    end_early(command, SequenceEnd::Kind::kError, images.error());
    return;
  }
  SequenceSpec spec{.id = id,
                    .attempt = command.attempt,
                    .request = command.request,
                    .images = std::move(*images),
                    .committed = command.committed,
                    .deadline = deadline_of(command)};
  if (Status added = engine_.add(std::move(spec)); !added) {
    end_early(command, SequenceEnd::Kind::kError, added.error());
    return;
  }
  log_.open({id, command.attempt}, static_cast<std::uint32_t>(command.committed.size()),
            !command.images.empty());
  FACET_CRASH_POINT("worker.opened");
  held_[id] = command.attempt;
  is_box_stale_ = true;
}

Status WorkerLoop::resume(const Resume& command) {
  const auto unwanted = FACET_TRY(log_.resume(command));
  for (const OutputLog::Key& key : unwanted) engine_.cancel(key.id, key.attempt);
  FACET_CRASH_POINT("worker.resumed");
  is_resumed_ = true;
  return {};
}

void WorkerLoop::show_held() {
  if (!std::exchange(is_box_stale_, false)) return;
  std::vector<RequestId> ids;
  ids.reserve(held_.size());
  for (const auto& [id, attempt] : held_) ids.push_back(id);
  around_.page.show_requests(ids);
}

void WorkerLoop::cancel(const CancelSequence& command) {
  const auto held = held_.find(command.id);
  if (held != held_.end() && held->second == command.attempt) {
    engine_.cancel(command.id, command.attempt);
    FACET_CRASH_POINT("worker.cancelled");
  }
}

void WorkerLoop::end_early(const Dispatch& command, SequenceEnd::Kind kind, const Error& error) {
  spdlog::info("dispatch_refused request={} attempt={} code={} error=\"{}\"",
               command.request.id.hex(), command.attempt, code_name(error.code), error.message);
  SequenceUpdate update;
  update.id = command.request.id;
  update.attempt = command.attempt;
  update.index = static_cast<std::uint32_t>(command.committed.size());
  update.images_released = true;
  update.ended = true;
  update.end.kind = kind;
  update.end.code = error.code;
  update.end.message = error.message;
  log_.add(std::move(update));
}

Status WorkerLoop::work() {
  if (is_connected()) FACET_TRY_STATUS(link_->flush());
  // A broker that does not keep up: no further step until it took the last one. Without a broker
  // the engine goes on for as long as its output can be kept.
  const bool is_full = is_connected() && !link_->has_room();
  FACET_TRY_STATUS(report());
  if (is_full || log_.num_tokens() >= kMaxKeptTokens) {
    around_.page.tick(WorkerPhase::kIdle);
    wait(kIdleRest);
    return {};
  }
  if (engine_.has_work()) return step();
  return is_resumed_ && log_.has_unsent() ? Status() : rest();
}

Status WorkerLoop::step() {
  checked_idle_ = false;
  show_held();
  auto updates = FACET_TRY(engine_.step());
  around_.page.count_step();
  for (const SequenceUpdate& update : updates) {
    const auto held = held_.find(update.id);
    if (!update.ended || held == held_.end() || held->second != update.attempt) continue;
    held_.erase(held);
    is_box_stale_ = true;
  }
  FACET_CRASH_POINT("worker.stepped");
  for (SequenceUpdate& update : updates) log_.add(std::move(update));
  return report();
}

Status WorkerLoop::report() {
  if (!is_resumed_ || !log_.has_unsent() || !link_->has_room()) return {};
  Step message;
  message.incarnation = identity_.incarnation;
  message.step = ++steps_;
  message.num_running = static_cast<std::uint32_t>(held_.size());
  message.kv_blocks_free = engine_.kv_blocks_free();
  message.kv_blocks_total = engine_.kv_blocks_total();
  message.kv_blocks_cached = engine_.kv_blocks_cached();
  message.is_settled = engine_.is_settled();
  message.idle_gap_ns = static_cast<std::uint32_t>(
      std::min<Nanos>(engine_.idle_gap(), std::numeric_limits<std::uint32_t>::max()));
  if (message.is_settled) around_.page.set_settled();
  message.updates = log_.take_unsent(steps_, kMaxStepTokens);
  FACET_TRY_STATUS(link_->send(encode_message(message)));
  FACET_CRASH_POINT("worker.reported");
  return {};
}

Status WorkerLoop::rest() {
  show_held();
  if (!checked_idle_) {
    FACET_TRY_STATUS(engine_.check_conservation());
    checked_idle_ = true;
  }
  if (is_done()) return {};
  around_.page.tick(draining_ ? WorkerPhase::kDraining : WorkerPhase::kIdle);
  wait(kIdleRest);
  return {};
}

void WorkerLoop::wait(Nanos timeout) {
  if (!is_connected()) timeout = std::min(timeout, kBrokerlessRest);
  wait_for_mail(around_.mailbox, link_.get(), around_.lifeline_fd, timeout);
}

bool WorkerLoop::is_done() const {
  return draining_ && is_resumed_ && !engine_.has_work() && !log_.has_unsent() && link_->has_room();
}

}  // namespace facet
