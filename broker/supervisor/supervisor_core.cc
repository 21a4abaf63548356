#include "broker/supervisor/supervisor_core.h"

#include <algorithm>
#include <csignal>
#include <cstring>

#include "broker/supervisor/time_text.h"
#include "common/control/fds.h"

namespace facet {
namespace {

// A process that served this long without harm is not in a restart loop.
constexpr Nanos kSettledAfter = 10 * kSecond;
// A decoder has nothing to load: dying sooner than this counts as an early death.
constexpr Nanos kDecoderProven = kSecond;
constexpr Nanos kAfterOrderlyEnd = 100 * kMillisecond;
constexpr Nanos kBusyTick = 20 * kMillisecond;  // while somebody starts: `ready` is seen soon
constexpr Nanos kQuietTick = 250 * kMillisecond;
// Of a longer gap between two steps so much counts as time in which others could show progress: the
// supervisor did not run itself (host suspended, stopped, no core for it), and they may not have.
constexpr Nanos kLongestRest = 2 * kQuietTick;
// Deaths of one worker that a new broker is told of. One matters: that of the life which had a
// request when the former broker died; more happen only while a broker stands stopped.
constexpr std::size_t kDeathsKept = 16;

std::string describe(const ChildEnd& end) {
  if (!end.is_signalled) {
    return "exited with " + std::to_string(end.code) + " (" + exit_code_meaning(end.code) + ")";
  }
  const char* name = sigabbrev_np(end.code);
  return "killed by SIG" + (name != nullptr ? std::string(name) : std::to_string(end.code));
}

std::int32_t wire_code(const ChildEnd& end) {
  return end.is_signalled ? -end.code : end.code;
}

}  // namespace

std::string child_name(const ChildId& id) {
  switch (id.role) {
    case Role::kBroker:
      return "broker";
    case Role::kDecoder:
      return "decoder";
    case Role::kWorker:
      break;
  }
  return "worker " + std::to_string(id.worker);
}

SupervisorCore::SupervisorCore(const SupervisorRules& rules) : rules_(rules) {
  broker_.id.role = Role::kBroker;
  decoder_.id.role = Role::kDecoder;
  workers_.resize(rules.num_workers);
  for (std::uint32_t i = 0; i < rules.num_workers; ++i) workers_[i].id.worker = i;
}

std::vector<SupervisorAction> SupervisorCore::step(const SupervisorEvent& event, Nanos now,
                                                   std::uint64_t fresh) {
  actions_.clear();
  if (now_ != 0) awake_ += std::clamp<Nanos>(now - now_, 0, kLongestRest);
  now_ = std::max(now_, now);
  if (fresh > last_incarnation_) last_incarnation_ = fresh - 1;
  if (!has_left_) {
    std::visit([this](const auto& known) { on(known); }, event);
    check_usefulness();
    advance_roll();
    start_what_is_due();
    for_each([this](Life& life) { escalate(life); });
    leave_when_done();
    announce_status();
  }
  return std::move(actions_);
}

void SupervisorCore::on(const ChildStarted& event) {
  Life* life = find(event.id);
  if (life == nullptr) return;
  life->pid = event.pid;
  ControlPacket packet{.worker = event.id.worker, .incarnation = event.id.incarnation,
                       .pid = event.pid};
  switch (event.id.role) {
    case Role::kBroker:
      return brief_broker();
    case Role::kDecoder:
      packet.kind = ControlKind::kDecoderStarted;
      break;
    case Role::kWorker:
      packet.kind = ControlKind::kWorkerStarted;
      break;
  }
  if (broker_.is_alive()) actions_.emplace_back(TellBroker{packet});
}

void SupervisorCore::brief_broker() {
  for (const Life& worker : workers_) {
    if (!worker.is_alive()) continue;
    // Of one that is ending, its page was not read to the last.
    const bool may_hold = worker.is_ready || worker.state == State::kEnding;
    actions_.emplace_back(TellBroker{{.kind = ControlKind::kWorkerStarted,
                                      .worker = worker.id.worker,
                                      .incarnation = worker.id.incarnation,
                                      .pid = worker.pid,
                                      .value = may_hold ? 1u : 0u}});
  }
  for (const ControlPacket& death : last_deaths_) actions_.emplace_back(TellBroker{death});
  actions_.emplace_back(TellBroker{{.kind = ControlKind::kTakeOver}});
  for (const Life& worker : workers_) {
    if (worker.state == State::kDisabled) {
      tell_about(ControlKind::kWorkerDisabled, worker,
                 static_cast<std::uint32_t>(worker.exit_code));
    }
  }
  tell_again();
}

void SupervisorCore::on(const StartFailed& event) {
  Life* life = find(event.id);
  if (life == nullptr) return;
  note(true, child_name(event.id) + " could not be started: " + event.why);
  schedule(*life, true);
}

void SupervisorCore::on(const ChildExited& event) {
  Life* life = find(event.id);
  if (life == nullptr || !life->is_alive()) return;
  // Drained and gone as it was told to.
  if (life->is_retiring && !event.end.is_signalled && event.end.code == kExitOk) {
    life->is_ended_by_us = true;
  }
  note_death(*life, event.end);
  switch (event.id.role) {
    case Role::kBroker:
      broker_ended(event.end);
      break;
    case Role::kDecoder:
      decoder_ended(event.end);
      break;
    case Role::kWorker:
      worker_ended(*life, event.end);
      break;
  }
}

// Its requests may run elsewhere at once; what it held is reused only after it is reaped. One that
// says so and lives on is ended: the broker hears nothing from it any more.
void SupervisorCore::on(const LastWordsHeard& event) {
  Life* life = find(event.id);
  if (life == nullptr || life->state != State::kRunning) return;
  life->said = event.signal;
  life->is_blamed = is_own_fault({true, event.signal.number}, life->said);
  life->state = State::kEnding;
  life->kill_at = now_ + rules_.kill_grace;
  declare_dead(*life, life->is_blamed, -event.signal.number);
}

void SupervisorCore::on(const DeathSeen& event) {
  Life* life = find(event.id);
  if (life == nullptr || life->state != State::kRunning) return;
  life->is_blamed = is_own_fault(event.end);
  life->state = State::kEnding;
  life->kill_at = now_ + rules_.kill_grace;  // no harm to one that is dying
  declare_dead(*life, life->is_blamed, wire_code(event.end));
}

void SupervisorCore::on(const LifelineClosed&) {
  if (decoder_.state != State::kHeld) return;
  tell_about(ControlKind::kDecoderReaped, decoder_);
  decoder_.state = State::kWaiting;  // start_at stands since its death
}

void SupervisorCore::on(const BrokerSaid& event) {
  broker_heard_ = awake_;
  const ControlPacket& packet = event.packet;
  Life* life = find({Role::kWorker, packet.worker, packet.incarnation});
  switch (packet.kind) {
    case ControlKind::kBrokerReady:
      broker_.is_ready = true;
      broker_.ready_since = now_;
      actions_.emplace_back(PublishEpoch{packet.incarnation});
      was_broker_ready_ = true;
      note(false, "broker is ready after " + seconds(now_ - broker_.started));
      if (phase_ == Phase::kDraining) tell_about(ControlKind::kDrain, broker_);
      break;
    case ControlKind::kKillWorker:
      if (life == nullptr || life->state != State::kRunning) break;
      note(true, child_name(life->id) + " broke the protocol, says the broker; killed");
      life->is_blamed = true;
      end_child(*life, SIGKILL);
      break;
    case ControlKind::kKillDecoder:
      if (decoder_.state != State::kRunning) break;
      note(true, "decoder does not answer, says the broker; killed");
      end_child(decoder_, SIGKILL);
      break;
    case ControlKind::kWorkerFinishedStep:
      if (life != nullptr) life->was_useful = true;
      break;
    case ControlKind::kStatus:
      if (num_unfinished_ != packet.value && phase_ == Phase::kDraining) {
        tell_drainers(std::to_string(packet.value) + " requests unfinished");
      }
      num_unfinished_ = packet.value;
      break;
    default:
      note(true, "broker sent an unknown packet: " +
                     std::to_string(static_cast<std::uint32_t>(packet.kind)));
  }
}

void SupervisorCore::on(const PageSeen& event) {
  Life* life = find(event.id);
  if (life == nullptr || life->state != State::kRunning) return;
  life->watch.see(event.phase, event.progress, awake_);
  if (event.steps > 0) life->was_useful = true;
  if (event.is_ready && !life->is_ready) {
    life->is_ready = true;
    life->ready_since = now_;
    note(false, child_name(life->id) + " is ready after " + seconds(now_ - life->started));
  }
  if (life->watch.is_overdue(rules_.deadlines, awake_)) end_hung(*life, event.is_stopped);
}

void SupervisorCore::on(const BrokerSeen& event) {
  // From its start on: one that hangs while it recovers is no better.
  if (broker_.state != State::kRunning) return;
  if (awake_ - broker_heard_ > rules_.broker_deadline) end_hung(broker_, event.is_stopped);
}

SupervisorCore::Life* SupervisorCore::find(const ChildId& id) {
  Life* life = nullptr;
  if (id.role == Role::kBroker) life = &broker_;
  if (id.role == Role::kDecoder) life = &decoder_;
  if (id.role == Role::kWorker && id.worker < workers_.size()) life = &workers_[id.worker];
  return life != nullptr && life->id.incarnation == id.incarnation && id.incarnation != 0 ? life
                                                                                          : nullptr;
}

void SupervisorCore::note_death(Life& life, const ChildEnd& end) {
  const bool is_expected = life.is_ended_by_us || (phase_ != Phase::kServing && end.code == 0);
  note(!is_expected,
       child_name(life.id) + " " + describe(end) + " after " + seconds(now_ - life.started));
}

// Decides when the successor starts. Called once for each death.
void SupervisorCore::schedule(Life& life, bool own_fault) {
  const Nanos proven = life.id.role == Role::kDecoder ? life.started + kDecoderProven
                       : life.is_ready                ? life.ready_since + kSettledAfter
                                                      : now_ + 1;
  // Before it was ready, or ready and of no use yet; a long quiet life is not held against it.
  bool is_early = !life.was_useful && now_ < proven;
  // These two have no first step to prove themselves by; being killed says nothing about them.
  if (life.id.role == Role::kDecoder || (life.id.role == Role::kBroker && life.is_ready)) {
    is_early = is_early && own_fault;
  }
  if (life.is_ended_by_us && !life.is_blamed) {
    life.start_at = now_;
  } else {
    life.early_deaths = is_early ? life.early_deaths + 1 : 0;
    life.start_at = now_ + rules_.back_off.delay(life.early_deaths);
  }
  if (life.start_at > now_) {
    note(true, child_name(life.id) + " died early " + std::to_string(life.early_deaths) +
                   " times in a row: starts again in " + seconds(life.start_at - now_));
  }
  life.state = State::kWaiting;
}

void SupervisorCore::broker_ended(const ChildEnd& end) {
  const bool was_ready = broker_.is_ready;
  schedule(broker_, broker_.is_blamed || is_own_fault(end));
  broker_.is_ready = false;
  actions_.emplace_back(PublishEpoch{0});
  // Any other end than the orderly one leaves requests behind, for the next broker to finish.
  if (phase_ == Phase::kDraining && !end.is_signalled && end.code == kExitOk) {
    note(false, "drained");
    num_unfinished_ = 0;
    begin_stopping();
  }
  if (phase_ == Phase::kStopping) return;
  if (!was_ready && (end.code == kExitBadConfig || end.code == kExitUsage) && !end.is_signalled) {
    note(true, "the broker refuses its configuration: nothing can be served");
    exit_code_ = kExitBadConfig;
    return begin_stopping();
  }
  // Its children write into pages that nobody holds on record.
  if (decoder_.state == State::kRunning) end_child(decoder_, SIGKILL);
}

void SupervisorCore::decoder_ended(const ChildEnd& end) {
  schedule(decoder_, is_own_fault(end));
  decoder_.state = State::kHeld;  // its children may still write pixels
  // It leaves in order when the broker is gone, whose own end is about to be seen.
  const bool is_orderly = !end.is_signalled && end.code == kExitOk;
  if (is_orderly) decoder_.start_at = std::max(decoder_.start_at, now_ + kAfterOrderlyEnd);
}

void SupervisorCore::worker_ended(Life& life, const ChildEnd& end) {
  const bool own_fault = life.is_blamed || (!life.is_ended_by_us && is_own_fault(end, life.said));
  if (!life.is_declared_dead) declare_dead(life, own_fault, wire_code(end));
  ControlPacket packet{.kind = ControlKind::kWorkerReaped,
                       .worker = life.id.worker,
                       .incarnation = life.id.incarnation,
                       .own_fault = own_fault ? 1u : 0u,
                       .exit_code = wire_code(end)};
  if (broker_.is_alive()) actions_.emplace_back(TellBroker{packet});
  life.failed_starts = own_fault && !life.is_ready ? life.failed_starts + 1 : 0;
  bool is_final = !end.is_signalled && (end.code == kExitBadConfig || end.code == kExitDeviceLost);
  if (is_final && roll_ && roll_->is_turn_of(life.id.worker) && life.id.incarnation > roll_floor_) {
    give_up_roll(child_name(life.id) + " " + describe(end));  // it may come up as it was before
    life.early_deaths = 0;
    is_final = false;
  }
  if (!is_final || life.is_ended_by_us) return schedule(life, own_fault);
  life.state = State::kDisabled;
  life.exit_code = end.code;
  note(true, child_name(life.id) + " is disabled: " + exit_code_meaning(end.code) +
                 "; starting it again would not help");
  tell_about(ControlKind::kWorkerDisabled, life, static_cast<std::uint32_t>(end.code));
  if (num_disabled() == workers_.size() && !was_ready_ && phase_ == Phase::kServing) {
    note(true, "no worker can run");
    exit_code_ = end.code;
    begin_stopping();
  }
}

void SupervisorCore::end_child(Life& life, int signal_number) {
  life.is_ended_by_us = true;
  life.state = State::kEnding;
  life.kill_at = signal_number == SIGKILL ? 0 : now_ + rules_.kill_grace;
  actions_.emplace_back(SignalChild{life.id, signal_number});
}

void SupervisorCore::declare_dead(Life& life, bool own_fault, int exit_code) {
  life.is_declared_dead = true;
  ControlPacket packet{.kind = ControlKind::kWorkerDead,
                       .worker = life.id.worker,
                       .incarnation = life.id.incarnation,
                       .own_fault = own_fault ? 1u : 0u,
                       .exit_code = exit_code};
  last_deaths_.push_back(packet);
  if (last_deaths_.size() > kDeathsKept * workers_.size()) last_deaths_.pop_front();
  if (broker_.is_alive()) actions_.emplace_back(TellBroker{packet});
}

// A stopped process is somebody's doing and cannot handle SIGABRT; a hung one is to blame.
void SupervisorCore::end_hung(Life& life, bool is_stopped) {
  const Nanos silent =
      life.id.role == Role::kBroker ? awake_ - broker_heard_ : life.watch.silent_for(awake_);
  note(true, child_name(life.id) + (is_stopped ? " stands stopped" : " hangs") +
                 ": no progress for " + seconds(silent));
  life.is_blamed = !is_stopped;
  end_child(life, is_stopped ? SIGKILL : SIGABRT);
  if (life.id.role == Role::kWorker) {
    declare_dead(life, life.is_blamed, is_stopped ? -SIGKILL : -SIGABRT);
  }
}

bool SupervisorCore::is_gone(const Life& life) {
  return !life.is_alive() && life.state != State::kHeld;
}

bool SupervisorCore::are_holders_gone() const {
  return is_gone(decoder_) && std::all_of(workers_.begin(), workers_.end(), is_gone);
}

bool SupervisorCore::may_start(const Life& life) const {
  if (life.state != State::kWaiting || now_ < life.start_at) return false;
  if (phase_ == Phase::kStopping) return false;
  if (life.id.role == Role::kBroker) return is_gone(decoder_);
  return is_broker_ready();  // a broker that cannot serve needs nobody
}

void SupervisorCore::start_what_is_due() {
  for_each([this](Life& life) {
    if (!may_start(life)) return;
    const Life former = life;
    life = Life{};
    life.id = former.id;
    life.id.incarnation = ++last_incarnation_;
    life.early_deaths = former.early_deaths;
    life.failed_starts = former.failed_starts;
    life.state = State::kRunning;
    life.started = now_;
    life.watch.start(awake_);
    if (life.id.role == Role::kBroker) broker_heard_ = awake_;
    actions_.emplace_back(StartChild{life.id});
  });
}

void SupervisorCore::escalate(Life& life) {
  if (life.state != State::kEnding || life.kill_at == 0 || now_ < life.kill_at) return;
  life.kill_at = 0;
  actions_.emplace_back(SignalChild{life.id, SIGKILL});
}

// Whoever has proven its worth starts with a clean slate.
void SupervisorCore::check_usefulness() {
  for_each([this](Life& life) {
    if (life.state != State::kRunning || life.early_deaths == 0) return;
    const bool is_settled = life.is_ready && now_ - life.ready_since >= kSettledAfter;
    const bool is_proven = life.id.role == Role::kDecoder && now_ - life.started >= kDecoderProven;
    if (life.was_useful || is_settled || is_proven) life.early_deaths = 0;
  });
}

void SupervisorCore::announce_status() {
  if (!was_ready_ && is_broker_ready() && num_ready() > 0) {
    was_ready_ = true;
    actions_.emplace_back(Announce{Milestone::kReady, ""});
  }
  if (phase_ == Phase::kStopping || is_signalled()) return;
  std::string status =
      std::to_string(num_ready()) + " of " + std::to_string(workers_.size()) + " workers ready";
  if (num_disabled() > 0) status += ", " + std::to_string(num_disabled()) + " disabled";
  if (!is_broker_ready()) status += ", broker starting";
  if (roll_) status += ", rolling restart: " + roll_->describe();
  if (phase_ == Phase::kDraining) status += ", draining";
  if (status == status_) return;
  status_ = status;
  actions_.emplace_back(Announce{Milestone::kStatus, std::move(status)});
}

void SupervisorCore::tell_about(ControlKind kind, const Life& life, std::uint32_t value) {
  if (!broker_.is_alive()) return;
  actions_.emplace_back(TellBroker{ControlPacket{
      .kind = kind, .worker = life.id.worker, .incarnation = life.id.incarnation, .value = value}});
}

void SupervisorCore::note(bool is_problem, std::string text) {
  actions_.emplace_back(Note{is_problem, std::move(text)});
}

std::uint32_t SupervisorCore::num_ready() const {
  return static_cast<std::uint32_t>(std::count_if(
      workers_.begin(), workers_.end(),
      [](const Life& life) { return life.state == State::kRunning && life.is_ready; }));
}

std::uint32_t SupervisorCore::num_disabled() const {
  return static_cast<std::uint32_t>(
      std::count_if(workers_.begin(), workers_.end(),
                    [](const Life& life) { return life.state == State::kDisabled; }));
}

Nanos SupervisorCore::next_wakeup(Nanos now) const {
  Nanos next = now + kQuietTick;
  const auto consider = [&](const Life& life) {
    const bool is_starting =
        life.state == State::kRunning && !life.is_ready && life.id.role != Role::kDecoder;
    if (is_starting) next = std::min(next, now + kBusyTick);
    if (life.state == State::kWaiting && life.start_at > now) next = std::min(next, life.start_at);
    if (life.state == State::kEnding && life.kill_at > now) next = std::min(next, life.kill_at);
  };
  consider(broker_);
  consider(decoder_);
  for (const Life& worker : workers_) consider(worker);
  if (phase_ == Phase::kDraining) next = std::min(next, std::max(now, drain_until_));
  if (roll_) next = std::min(next, std::max(now, roll_->next_deadline()));
  return next;
}

}  // namespace facet
