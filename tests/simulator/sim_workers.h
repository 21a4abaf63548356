// Simulated workers and their supervisor: crashes, hangs (declared dead, still running and reading
// until reaped), restarts with new incarnations, late and repeated messages. They outlive brokers,
// with the real memory of what they have said (worker/service/output_log.h).
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "common/shm/ring.h"
#include "tests/simulator/simulation.h"

namespace facet::sim {

class SimWorkers {
 public:
  explicit SimWorkers(Simulation& sim);
  ~SimWorkers();

  Takeover takeover();           // what a new broker is told, before it recovers
  void broker_started(std::uint64_t epoch);
  void broker_died();
  void resume(std::uint32_t worker, std::uint64_t incarnation, Resume answer);
  void acknowledge(std::uint32_t worker, std::uint64_t incarnation, const StepAck& ack);
  void dispatch(std::uint32_t worker, std::uint64_t incarnation, DispatchOrder dispatch);
  void cancel(std::uint32_t worker, std::uint64_t incarnation, const CancelSequence& cancel);
  // The core says that this incarnation has finished its first step.
  void first_step(std::uint32_t worker, std::uint64_t incarnation);
  std::uint64_t num_deaths() const { return num_deaths_; }

 private:
  struct Sequence;
  struct Process;
  using ProcessPtr = std::shared_ptr<Process>;
  using Key = std::pair<RequestId, std::uint32_t>;

  struct Death {
    WorkerDead dead;
    std::vector<RequestId> poison;  // what ended it, if it did
    bool is_counted = false;        // a broker has heard of it
  };

  void start(std::uint32_t index);
  Nanos longest_delay();  // of a message over a worker's connection
  void start_absent();
  // Speaks to the broker that serves now, if it does not already.
  void connect(const ProcessPtr& process);
  void report(const ProcessPtr& process);
  void tell_dead(const std::shared_ptr<Death>& death);
  void reap(const ProcessPtr& process);
  // Over the connection that a process has now; void when it has another one by then.
  void to_worker(std::uint32_t worker, std::uint64_t incarnation,
                 std::function<void(const ProcessPtr&)> what);
  void plan_faults(const ProcessPtr& process);
  void plan_step(const ProcessPtr& process);
  void step(const ProcessPtr& process);
  bool advance(const ProcessPtr& process, const Key& key, Sequence& sequence,
               SequenceUpdate& update);
  void read_images(const Process& process, const Key& key, const Sequence& sequence);
  void to_broker(const ProcessPtr& process, Step step);
  void repeat_late(std::uint32_t worker, const Step& step, std::uint64_t epoch);
  // The process ends now; the supervisor sees it, reaps it, starts another.
  void die(const ProcessPtr& process, bool own_fault);
  void report_death(const ProcessPtr& process, bool own_fault);
  void check_exposure(const Process& process, const RequestParams& params, const RequestId& id);

  Simulation& sim_;
  Link control_;
  std::uint64_t life_ = 0;        // grows with each broker's end and start
  std::uint64_t page_epoch_ = 0;  // which broker serves, as the supervisor says; 0: none
  std::uint64_t next_incarnation_ = 1;
  std::uint64_t num_deaths_ = 0;
  std::vector<ProcessPtr> processes_;
  std::vector<std::uint64_t> started_;  // the incarnation that the broker was last told of
  std::set<std::uint64_t> first_steps_;   // of this broker's life
  std::deque<std::shared_ptr<Death>> deaths_;  // the last ones, for a broker that was not there
  std::map<RequestId, int> poison_deaths_;  // reported to a broker that lived to hear it
};

}  // namespace facet::sim
