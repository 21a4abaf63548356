// The supervisor's decisions as a pure step function: (state, event, now) -> actions. No process,
// socket or clock in it. The shell (supervisor.h) carries the actions out and reports what happens.
//
// One broker, one decoder, N workers; each is Waiting (starts when its time has come), Running,
// Ending (asked to end or dying, not yet reaped), Gone-but-held (decoder: children still there)
// or Disabled.
// When the broker dies its decoder is ended and reaped first, for what writes into the ring must be
// gone; workers run on, and the next broker is told which of them live and how the last ones died.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "broker/supervisor/progress_watch.h"
#include "broker/supervisor/restart_policy.h"
#include "broker/supervisor/rolling_restart.h"
#include "common/base/clock.h"
#include "common/control/operator_packets.h"
#include "common/control/packets.h"

namespace facet {

enum class Role { kBroker, kDecoder, kWorker };

// One life of one process. Incarnations only grow and are never given twice.
struct ChildId {
  Role role = Role::kWorker;
  std::uint32_t worker = 0;  // index; 0 for the others
  std::uint64_t incarnation = 0;
  bool operator==(const ChildId&) const = default;
};

std::string child_name(const ChildId& id);  // "broker", "decoder", "worker 2"

struct SupervisorRules {
  std::uint32_t num_workers = 1;
  BackOff back_off;
  PhaseDeadlines deadlines;
  Nanos broker_deadline = 10 * kSecond;  // it reports twice a second once it is ready
  Nanos kill_grace = 2 * kSecond;
  Nanos drain = 30 * kSecond;
};

// -- events --
struct ChildStarted {  // forked; it runs on only after the actions of this event are carried out
  ChildId id;
  std::uint32_t pid = 0;
};
struct StartFailed {
  ChildId id;
  std::string why;
};
struct ChildExited {  // reaped
  ChildId id;
  ChildEnd end;
};
struct LastWordsHeard {  // a worker's fatal-signal handler spoke: it is about to end
  ChildId id;
  FatalSignal signal;
};
struct DeathSeen {  // a worker is dying: this will be its end once it can be reaped
  ChildId id;
  ChildEnd end;
};
struct LifelineClosed {};  // the decoder and all its children are gone
struct BrokerSaid {
  ControlPacket packet;
};
struct PageSeen {  // what the page of a worker says
  ChildId id;
  WorkerPhase phase = WorkerPhase::kStarting;
  std::uint64_t progress = 0;
  std::uint64_t steps = 0;
  bool is_ready = false;
  bool is_stopped = false;  // state T: somebody stopped it
};
struct BrokerSeen {
  bool is_stopped = false;
};
struct OperatorSaid {  // `client` names the connection, never 0
  std::uint64_t client = 0;
  OperatorRequest request;
};
struct ConfigChanged {  // the children's file is written already
  SupervisorRules rules;  // num_workers as it was
  std::uint32_t generation = 0;
  bool has_new_decoder = false;  // keys that a decoder reads at its start
};
struct StopRequested {};  // SIGTERM or SIGINT; the second one means at once
struct TimePassed {};
using SupervisorEvent =
    std::variant<ChildStarted, StartFailed, ChildExited, LastWordsHeard, DeathSeen, LifelineClosed,
                 BrokerSaid, PageSeen, BrokerSeen, OperatorSaid, ConfigChanged, StopRequested,
                 TimePassed>;

// -- actions --
struct StartChild {
  ChildId id;
};
struct SignalChild {
  ChildId id;
  int number = 0;
};
struct TellBroker {  // with kDecoderStarted the shell sends the broker's end of the job socket
  ControlPacket packet;
};
enum class Milestone { kReady, kStatus, kStopping };
struct PublishEpoch {  // in the page of all workers: which life of the broker serves; 0: none
  std::uint64_t epoch = 0;
};
struct Announce {  // to systemd and to whoever waits for the first worker
  Milestone milestone = Milestone::kStatus;
  std::string status;
};
struct Note {  // for the log
  bool is_problem = false;
  std::string text;
};
struct TellOperator {
  std::uint64_t client = 0;
  std::string text;
  bool is_last = false;
  int exit_code = 0;  // is_last: of the command
};
struct RestoreConfig {};  // the one that was in effect before this rolling restart
struct Leave {  // everything is reaped, or nothing more can be done
  int exit_code = 0;
};
using SupervisorAction =
    std::variant<StartChild, SignalChild, TellBroker, TellOperator, RestoreConfig, PublishEpoch,
                 Announce, Note, Leave>;

class SupervisorCore {
 public:
  explicit SupervisorCore(const SupervisorRules& rules);

  // `now` never goes back. `fresh` is a candidate for the next incarnation (CLOCK_BOOTTIME).
  std::vector<SupervisorAction> step(const SupervisorEvent& event, Nanos now, std::uint64_t fresh);

  // The latest time of the next step: pages want to be read even when nothing else happens.
  Nanos next_wakeup(Nanos now) const;

  std::uint32_t num_ready() const;
  std::uint32_t num_disabled() const;
  bool is_broker_ready() const { return broker_.state == State::kRunning && broker_.is_ready; }
  bool is_stopping() const { return phase_ != Phase::kServing; }
  bool is_restarting() const { return roll_.has_value(); }
  // Why a restart cannot begin now, or nothing.
  std::string why_no_restart() const;

 private:
  enum class State { kWaiting, kRunning, kEnding, kHeld, kDisabled };
  enum class Phase { kServing, kDraining, kStopping };

  struct Life {
    ChildId id;
    State state = State::kWaiting;
    Nanos start_at = 0;      // kWaiting
    Nanos started = 0;
    Nanos ready_since = 0;
    Nanos kill_at = 0;       // kEnding: SIGKILL then; 0 = it was sent
    bool is_ready = false;
    bool was_useful = false;     // finished a step (worker)
    bool is_declared_dead = false;  // the broker knows
    bool is_ended_by_us = false;    // end was asked for: not a death to learn from
    bool is_blamed = false;         // hung, or broke the protocol
    bool is_retiring = false;       // drained for a rolling restart
    std::uint32_t early_deaths = 0;  // in a row
    std::uint32_t pid = 0;
    std::uint32_t failed_starts = 0;  // own-fault deaths before it was ready, in a row
    int exit_code = 0;               // kDisabled
    std::optional<FatalSignal> said;  // worker: by its last words
    ProgressWatch watch;
    bool is_alive() const { return state == State::kRunning || state == State::kEnding; }
  };

  void on(const ChildStarted& event);
  void on(const StartFailed& event);
  void on(const ChildExited& event);
  void on(const LastWordsHeard& event);
  void on(const DeathSeen& event);
  void on(const LifelineClosed& event);
  void on(const BrokerSaid& event);
  void on(const PageSeen& event);
  void on(const BrokerSeen& event);
  void on(const OperatorSaid& event);
  void on(const ConfigChanged& event);
  void on(const StopRequested& event);
  void on(const TimePassed& event);

  Life* find(const ChildId& id);
  void note_death(Life& life, const ChildEnd& end);
  void schedule(Life& life, bool is_own_fault);
  void broker_ended(const ChildEnd& end);
  void decoder_ended(const ChildEnd& end);
  void worker_ended(Life& life, const ChildEnd& end);
  void end_child(Life& life, int signal_number);
  void declare_dead(Life& life, bool is_own_fault, int exit_code);
  void end_hung(Life& life, bool is_stopped);
  void start_what_is_due();
  bool may_start(const Life& life) const;
  void brief_broker();            // what every new one is told before all else
  static bool is_gone(const Life& life);
  bool are_holders_gone() const;  // no process is left that the broker handed something to
  void escalate(Life& life);
  void begin_stopping();
  void leave_when_done();
  void check_usefulness();
  void announce_status();
  // supervisor_operator.cc
  static Nanos bound_of(const OperatorRequest& request, Nanos fallback);
  void begin_roll(std::uint64_t client, const OperatorRequest& request);
  void advance_roll();
  void end_roll(int exit_code, const std::string& text);
  void give_up_roll(const std::string& why);
  bool is_broker_replaced();
  void retire(Life& life);
  void start_again(Life& life);
  std::vector<WorkerSeen> workers_seen() const;
  void tell_operator(std::uint64_t client, std::string text, bool is_last, int exit_code = 0);
  void tell_again();  // what a new broker must know
  // supervisor_stop.cc
  void begin_drain(std::uint64_t client, const OperatorRequest& request);
  void cancel_drain(std::uint64_t client);
  void enter_draining();
  void tell_drainers(const std::string& text);
  void end_drainers(const std::string& text, int exit_code);
  // Told to stop by a signal: cannot be taken back.
  bool is_signalled() const { return num_stop_requests_ > 0; }

  void tell_about(ControlKind kind, const Life& life, std::uint32_t value = 0);
  void note(bool is_problem, std::string text);

  template <class Visit>
  void for_each(Visit visit) {
    visit(broker_);
    visit(decoder_);
    for (Life& worker : workers_) visit(worker);
  }

  SupervisorRules rules_;
  Life broker_;
  Life decoder_;
  std::vector<Life> workers_;
  Phase phase_ = Phase::kServing;
  Nanos now_ = 0;
  Nanos drain_until_ = 0;
  Nanos leave_by_ = 0;          // kStopping: stop waiting for what cannot be reaped
  Nanos awake_ = 0;         // time in which we ran ourselves: by it others' progress is judged
  Nanos broker_heard_ = 0;  // in that time
  std::uint64_t last_incarnation_ = 0;
  std::deque<ControlPacket> last_deaths_;  // of workers, for a broker that was not there
  std::uint32_t num_unfinished_ = 0;  // requests, as the broker says
  std::uint32_t num_stop_requests_ = 0;
  int exit_code_ = 0;
  std::optional<RollingRestart> roll_;
  std::uint64_t roll_client_ = 0;
  std::uint64_t roll_floor_ = 0;   // greater incarnations are new
  bool roll_is_whole_ = false;    // broker and decoder too
  std::vector<std::uint64_t> drainers_;  // operators who wait for the end of the drain
  bool was_cut_ = false;                 // ended with requests unfinished
  std::uint32_t generation_ = 1;         // of the configuration
  bool was_broker_ready_ = false;  // ever
  bool was_ready_ = false;      // some worker, ever
  bool has_left_ = false;
  std::string status_;
  std::vector<SupervisorAction> actions_;
};

}  // namespace facet
