// A whole Facet in one thread and in virtual time: the real core, ring and ledger on plain memory;
// simulated clients, workers, decoder and supervisor around them. Everything follows from the seed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <queue>
#include <span>
#include <string>
#include <vector>

#include "broker/core/broker_core.h"
#include "tests/simulator/sim_model.h"
#include "tests/simulator/sim_watch.h"

namespace facet::sim {

class SimClients;
class SimWorkers;
class SimDecoder;

// How hostile a run is. Drawn from the seed.
struct SimOptions {
  std::uint64_t seed = 1;
  std::uint64_t max_events = 50'000;
  std::uint32_t num_workers = 3;
  std::uint32_t credits = 4;
  std::uint32_t num_clients = 4;
  std::uint32_t requests_per_client = 8;  // in flight
  std::uint32_t ingest_pages = 96;
  std::uint32_t pixel_pages = 96;
  double crash_rate = 0.5;  // worker crashes a second, each worker
  double hang_rate = 0.1;   // declared dead, running on until reaped
  double decoder_crash_rate = 0.2;
  double broker_crash_rate = 0.02;
  double disconnect_rate = 0.1;  // each client
  double block_rate = 0.3;
  double cancel_chance = 0.05;
  double poison_chance = 0.01;
  double bad_image_chance = 0.03;
  double preempt_chance = 0.01;
  double duplicate_chance = 0.02;
  bool own_faults = false;  // crashes at random are the worker's own: innocents may suffer
  bool short_deadlines = false;
  // One in four images is put as if it came as a descriptor. Not drawn from the seed: the lives
  // that find broken rules stay as they are.
  bool descriptors = false;
  std::uint32_t dispatch = 0;  // DispatchPolicy
  static SimOptions from_seed(std::uint64_t seed, std::uint64_t max_events);
};

// First in, first out, with a random delay.
struct Link {
  Nanos last = 0;
};

class Simulation {
 public:
  explicit Simulation(const SimOptions& options);
  ~Simulation();

  // Runs until max_events were fed to the core, then lets all finish. The first violated invariant,
  // or nothing.
  std::optional<std::string> run();
  std::uint64_t num_events() const { return num_events_; }
  std::string summary() const;

  // ---- for the actors ----
  const SimOptions options;
  Rng rng;
  Nanos now = kSecond;
  bool is_calm = false;  // no more faults and no new requests: everything must come to an end

  void schedule(Nanos delay, std::function<void()> what);
  void send(Link& link, Nanos min_delay, Nanos max_delay, std::function<void()> what);
  // Feeds the core; lost when the broker is down.
  void deliver(Event event);
  void violate(std::string what);
  bool is_over() const { return violation_.has_value(); }
  std::span<std::byte> ledger_memory() { return {ledger_memory_.get(), kLedgerBytes}; }
  std::span<std::byte> ring_memory() { return {ring_memory_.get(), ring_bytes_}; }
  BrokerCore* core() { return core_.get(); }
  std::uint64_t broker_life() const { return broker_life_; }
  std::uint64_t epoch() const { return ledger_ ? ledger_->epoch() : 0; }  // 0: no broker
  const CoreLimits& limits() const { return limits_; }
  std::uint32_t num_received(const RequestId& id) const;  // tokens that its client has seen
  Nanos between(Nanos low, Nanos high);

 private:
  struct Timed {
    Nanos when;
    std::uint64_t order;
    std::function<void()> what;
    bool operator>(const Timed& other) const {
      return when != other.when ? when > other.when : order > other.order;
    }
  };
  struct Free {
    void operator()(std::byte* memory) const;
  };

  void start_broker();
  void crash_broker();
  void plan_broker_crash();
  // `dies`: the broker ends between two of these actions.
  void execute(std::vector<Action> actions, bool dies);
  void plan_tick();
  void check_conservation();
  void check_end();
  bool run_one();

  static constexpr std::size_t kLedgerBytes = 1 << 20;
  CoreLimits limits_;
  std::uint64_t ring_bytes_ = 0;
  std::unique_ptr<std::byte[], Free> ring_memory_;
  std::unique_ptr<std::byte[], Free> ledger_memory_;
  std::optional<RingWriter> ring_;
  std::optional<LedgerWriter> ledger_;
  std::unique_ptr<BrokerCore> core_;
  std::uint64_t broker_life_ = 0;
  bool is_stepping_ = false;
  Nanos tick_at_ = 0;
  std::priority_queue<Timed, std::vector<Timed>, std::greater<>> queue_;
  std::uint64_t order_ = 0;
  std::uint64_t num_events_ = 0;
  std::uint64_t broker_crashes_ = 0;
  CoreCounters total_;
  SimWatch watch_;
  std::optional<std::string> violation_;
  std::unique_ptr<SimClients> clients_;
  std::unique_ptr<SimWorkers> workers_;
  std::unique_ptr<SimDecoder> decoder_;
};

}  // namespace facet::sim
