// Simulated workers and their supervisor: crashes, hangs (declared dead, still running and reading
// until reaped), restarts with new incarnations, late and repeated messages.
#pragma once

#include <cstdint>
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

  void start_all();  // after a broker start
  void kill_all();   // with the broker: nobody is told
  void dispatch(std::uint32_t worker, std::uint64_t incarnation, Dispatch dispatch);
  void cancel(std::uint32_t worker, std::uint64_t incarnation, const CancelSequence& cancel);
  // The core says that this incarnation has finished its first step.
  void first_step(std::uint32_t worker, std::uint64_t incarnation);
  std::uint64_t num_deaths() const { return num_deaths_; }

 private:
  struct Sequence;
  struct Process;
  using ProcessPtr = std::shared_ptr<Process>;
  using Key = std::pair<RequestId, std::uint32_t>;

  void start(std::uint32_t index);
  void plan_faults(const ProcessPtr& process);
  void plan_step(const ProcessPtr& process);
  void step(const ProcessPtr& process);
  bool advance(const ProcessPtr& process, const Key& key, Sequence& sequence,
               SequenceUpdate& update);
  void read_images(const Process& process, const Key& key, const Sequence& sequence);
  void to_broker(const ProcessPtr& process, Step step);
  void repeat_late(std::uint32_t worker, const Step& step);
  // The process ends now; the supervisor sees it, reaps it, starts another.
  void die(const ProcessPtr& process, bool own_fault);
  void report_death(const ProcessPtr& process, bool own_fault, bool is_poison_death);
  void check_exposure(const Process& process, const RequestParams& params, const RequestId& id);

  Simulation& sim_;
  Link control_;
  std::uint64_t life_ = 0;  // grows with each broker: what belongs to a former one is void
  std::uint64_t next_incarnation_ = 1;
  std::uint64_t num_deaths_ = 0;
  std::vector<ProcessPtr> processes_;
  std::vector<std::uint64_t> started_;  // the incarnation that the broker was last told of
  std::set<std::uint64_t> first_steps_;
  std::map<RequestId, int> poison_deaths_;  // reported to a broker that lived to hear it
};

}  // namespace facet::sim
