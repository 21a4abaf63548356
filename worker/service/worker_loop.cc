#include "worker/service/worker_loop.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <iterator>
#include <utility>
#include <variant>

#include "common/control/fds.h"
#include "common/protocol/codec.h"
#include "worker/service/process_life.h"

namespace facet {
namespace {

// Longest rest of an idle worker: it shows a sign of life at least this often.
constexpr Nanos kIdleRest = kSecond / 2;
// Time for the last step's message to reach the broker when a drained worker exits.
constexpr Nanos kDrainLinger = 2 * kSecond;

}  // namespace

WorkerLoop::WorkerLoop(const Identity& identity, Engine& engine, BrokerLink& link,
                       const ImageGate& gate, PageWriter& page, int lifeline_fd)
    : identity_(identity), engine_(engine), link_(link), gate_(gate), page_(page),
      lifeline_fd_(lifeline_fd) {}

int WorkerLoop::run() {
  Status status = say_hello();
  page_.set_settled();
  page_.set_ready();
  page_.tick(WorkerPhase::kIdle);
  while (status && !is_supervisor_gone(lifeline_fd_)) {
    status = receive_all();
    if (status) status = work();
    if (is_done()) {
      spdlog::info("worker_drained worker={}", identity_.worker);
      link_.linger(kDrainLinger);
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

Status WorkerLoop::say_hello() {
  Hello hello;
  hello.worker = identity_.worker;
  hello.incarnation = identity_.incarnation;
  hello.pid = static_cast<std::uint32_t>(getpid());
  hello.credits = engine_.capacity();
  hello.model = engine_.facts();
  return link_.send(encode_message(hello));
}

Status WorkerLoop::receive_all() {
  while (true) {
    auto message = FACET_TRY(link_.receive());
    if (!message) return {};
    FACET_TRY_STATUS(handle(*message));
  }
}

Status WorkerLoop::handle(std::string_view message) {
  WorkerCommand command = FACET_TRY(decode_worker_command(message));
  if (auto* work = std::get_if<Dispatch>(&command)) {
    dispatch(std::move(*work));
  } else if (const auto* stop = std::get_if<CancelSequence>(&command)) {
    cancel(*stop);
  } else {
    draining_ = true;
    page_.tick(WorkerPhase::kDraining);
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
  auto images = gate_.open(command.images);
  if (!images) {
    end_early(command, SequenceEnd::Kind::kError, images.error());
    return;
  }
  SequenceSpec spec{.id = id,
                    .attempt = command.attempt,
                    .request = command.request,
                    .images = std::move(*images),
                    .committed = command.committed};
  if (Status added = engine_.add(std::move(spec)); !added) {
    end_early(command, SequenceEnd::Kind::kError, added.error());
    return;
  }
  held_[id] = command.attempt;
  is_box_stale_ = true;
}

void WorkerLoop::show_held() {
  if (!std::exchange(is_box_stale_, false)) return;
  std::vector<RequestId> ids;
  ids.reserve(held_.size());
  for (const auto& [id, attempt] : held_) ids.push_back(id);
  page_.show_requests(ids);
}

void WorkerLoop::cancel(const CancelSequence& command) {
  const auto held = held_.find(command.id);
  if (held != held_.end() && held->second == command.attempt) {
    engine_.cancel(command.id, command.attempt);
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
  pending_.push_back(std::move(update));
}

Status WorkerLoop::work() {
  FACET_TRY_STATUS(link_.flush());
  if (!link_.has_room()) {
    // The broker does not keep up: no further step until it took the last one.
    page_.tick(WorkerPhase::kIdle);
    link_.wait(kIdleRest, lifeline_fd_);
    return {};
  }
  if (engine_.has_work()) return step();
  if (!pending_.empty()) return report();
  return rest();
}

Status WorkerLoop::step() {
  checked_idle_ = false;
  show_held();
  auto updates = FACET_TRY(engine_.step());
  ++steps_;
  page_.count_step();
  for (const SequenceUpdate& update : updates) {
    const auto held = held_.find(update.id);
    if (!update.ended || held == held_.end() || held->second != update.attempt) continue;
    held_.erase(held);
    is_box_stale_ = true;
  }
  pending_.insert(pending_.end(), std::make_move_iterator(updates.begin()),
                  std::make_move_iterator(updates.end()));
  return pending_.empty() ? Status() : report();
}

Status WorkerLoop::report() {
  Step message;
  message.incarnation = identity_.incarnation;
  message.step = steps_;
  message.num_running = static_cast<std::uint32_t>(held_.size());
  message.kv_blocks_free = engine_.kv_blocks_free();
  message.kv_blocks_total = engine_.kv_blocks_total();
  message.updates = std::exchange(pending_, {});
  return link_.send(encode_message(message));
}

Status WorkerLoop::rest() {
  show_held();
  if (!checked_idle_) {
    FACET_TRY_STATUS(engine_.check_conservation());
    checked_idle_ = true;
  }
  if (is_done()) return {};
  page_.tick(draining_ ? WorkerPhase::kDraining : WorkerPhase::kIdle);
  link_.wait(kIdleRest, lifeline_fd_);
  return {};
}

bool WorkerLoop::is_done() const {
  return draining_ && !engine_.has_work() && pending_.empty() && link_.has_room();
}

}  // namespace facet
