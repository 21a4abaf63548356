// A pretended host around SupervisorCore: carries its actions out at once and checks, on the way,
// what must hold at every step.
#pragma once

#include <gtest/gtest.h>

#include <csignal>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "broker/supervisor/supervisor_core.h"
#include "common/control/fds.h"

namespace facet {

class SupervisorWorld {
 public:
  explicit SupervisorWorld(const SupervisorRules& rules) : core(rules) {}

  struct Process {
    ChildId id;
    std::vector<int> signals;  // received and not yet acted on
    Nanos started = 0;
  };

  void feed(const SupervisorEvent& event) {
    for (const auto& action : core.step(event, now, static_cast<std::uint64_t>(now) + 1)) {
      std::visit([this](const auto& known) { execute(known); }, action);
    }
  }
  void pass(Nanos time) {  // in steps as the shell makes them
    const Nanos until = now + time;
    while (now < until && !left) {
      now = std::min(until, std::max(now + 1, core.next_wakeup(now)));
      feed(TimePassed{});
    }
  }
  void exit(Role role, std::uint32_t worker, ChildEnd end) {
    const ChildId id = running(role, worker);
    std::erase_if(processes, [&](const Process& process) { return process.id == id; });
    feed(ChildExited{id, end});
    if (role == Role::kDecoder && !decoder_children) feed(LifelineClosed{});
  }
  // Whatever was told to end, ends; `stubborn` ones only by SIGKILL.
  void obey(bool stubborn = false) {
    for (bool again = true; again;) {
      again = false;
      for (const Process& process : std::vector<Process>(processes)) {
        for (const int number : process.signals) {
          if (stubborn && number != SIGKILL) continue;
          exit(process.id.role, process.id.worker, {true, number});
          again = true;
          break;
        }
        if (again) break;
      }
    }
  }
  void start_all() {
    feed(TimePassed{});
    broker_ready();
    for (std::uint32_t i = 0; i < num_workers(); ++i) page(i, WorkerPhase::kIdle, 1, 0, true);
  }
  void broker_ready() {
    feed(BrokerSaid{{.kind = ControlKind::kBrokerReady, .incarnation = ++last_epoch_}});
  }
  void ask(OperatorKind kind, std::uint32_t worker = 0, std::optional<Nanos> bound = {}) {
    OperatorRequest request;
    request.kind = kind;
    request.worker = worker;
    request.has_bound = bound ? 1 : 0;
    request.bound_ms = bound ? static_cast<std::uint64_t>(*bound / kMillisecond) : 0;
    feed(OperatorSaid{++last_operator, request});
  }
  // Of the operator who asked last: its last packet, if it came.
  std::optional<TellOperator> answer() const { return answer_to(last_operator); }
  std::optional<TellOperator> answer_to(std::uint64_t client) const {
    for (const TellOperator& reply : replies) {
      if (reply.client == client && reply.is_last) return reply;
    }
    return std::nullopt;
  }
  void page(std::uint32_t worker, WorkerPhase phase, std::uint64_t progress, std::uint64_t steps,
            bool is_ready, bool stopped = false) {
    if (is_running(Role::kWorker, worker)) {
      feed(PageSeen{running(Role::kWorker, worker), phase, progress, steps, is_ready, stopped});
    }
  }

  bool is_running(Role role, std::uint32_t worker = 0) const {
    for (const Process& process : processes) {
      if (process.id.role == role && process.id.worker == worker) return true;
    }
    return false;
  }
  ChildId running(Role role, std::uint32_t worker = 0) const {
    for (const Process& process : processes) {
      if (process.id.role == role && process.id.worker == worker) return process.id;
    }
    ADD_FAILURE() << "not running";
    return {};
  }
  std::size_t num_workers() const {
    std::size_t count = 0;
    for (const Process& process : processes) count += process.id.role == Role::kWorker;
    return count;
  }
  int count(ControlKind kind) const {
    int total = 0;
    for (const auto& packet : told) total += packet.kind == kind;
    return total;
  }
  ControlPacket last(ControlKind kind) const {
    for (auto packet = told.rbegin(); packet != told.rend(); ++packet) {
      if (packet->kind == kind) return *packet;
    }
    ADD_FAILURE() << "never told";
    return {};
  }

  SupervisorCore core;
  Nanos now = kSecond;
  std::vector<Process> processes;
  std::vector<ControlPacket> told;  // to the present broker
  std::map<std::string, int> starts;
  std::vector<std::string> notes;
  bool decoder_children = false;  // some outlive the decoder until LifelineClosed is fed
  bool ready = false;
  bool left = false;
  int exit_code = -1;
  bool start_fails = false;
  std::vector<TellOperator> replies;
  std::uint64_t last_operator = 0;
  int restored = 0;  // configurations
  std::uint64_t epoch = 0;  // as the workers' page says

 private:
  void execute(const StartChild& action) {
    EXPECT_FALSE(left);
    EXPECT_FALSE(is_running(action.id.role, action.id.worker)) << "two at once";
    auto& former = incarnations_[child_name(action.id)];
    EXPECT_GT(action.id.incarnation, former) << "incarnations only grow";
    former = action.id.incarnation;
    if (action.id.role == Role::kBroker) {
      EXPECT_FALSE(is_running(Role::kDecoder)) << "a new broker beside the old one's decoder";
      EXPECT_FALSE(decoder_children);
      EXPECT_EQ(epoch, 0u);
      told.clear();
      told_of_.clear();
      is_briefed_ = false;
    } else {
      EXPECT_TRUE(is_running(Role::kBroker));
    }
    ++starts[child_name(action.id)];
    if (start_fails) return feed(StartFailed{action.id, "no such file"});
    processes.push_back({action.id, {}, now});
    feed(ChildStarted{action.id, 1000});
  }
  void execute(const SignalChild& action) {
    EXPECT_TRUE(is_running(action.id.role, action.id.worker));
    for (Process& process : processes) {
      if (process.id == action.id) process.signals.push_back(action.number);
    }
  }
  void execute(const TellBroker& action) {
    EXPECT_TRUE(is_running(Role::kBroker));
    const auto& packet = action.packet;
    // Dead before reaped, both once in a life, and nothing of a life before it has started.
    auto& state = told_of_[packet.incarnation];
    switch (packet.kind) {
      case ControlKind::kWorkerStarted: EXPECT_EQ(std::exchange(state, 1), 0); break;
      case ControlKind::kWorkerDead:
        // A new broker also hears of those that it will not see reaped.
        EXPECT_TRUE(state == 1 || (state == 0 && !is_briefed_));
        state = 2;
        break;
      case ControlKind::kWorkerReaped: EXPECT_EQ(std::exchange(state, 3), 2); break;
      case ControlKind::kTakeOver: EXPECT_FALSE(std::exchange(is_briefed_, true)); break;
      default: EXPECT_TRUE(is_briefed_); break;
    }
    told.push_back(packet);
  }
  void execute(const TellOperator& action) {
    EXPECT_FALSE(answer_to(action.client)) << "nothing follows the last packet";
    replies.push_back(action);
  }
  void execute(const RestoreConfig&) { ++restored; }
  void execute(const PublishEpoch& action) { epoch = action.epoch; }
  void execute(const Announce& action) { ready = ready || action.milestone == Milestone::kReady; }
  void execute(const Note& action) { notes.push_back(action.text); }
  void execute(const Leave& action) {
    EXPECT_FALSE(left) << "leaves once";
    left = true;
    exit_code = action.exit_code;
  }

  std::map<std::string, std::uint64_t> incarnations_;
  std::map<std::uint64_t, int> told_of_;
  bool is_briefed_ = false;
  std::uint64_t last_epoch_ = 0;
};

}  // namespace facet
