// Replacing workers one after the other: whose turn it is and what is to be done next. Pure: what
// is seen of the workers goes in, one order comes out.
//
// Of each worker: wait until all others are ready; drain it; end it when it takes longer than the
// bound (what it still has runs on elsewhere); wait until its successor is ready. So no more than
// one is away by our doing. Workers that died by themselves since the start are new already.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/clock.h"

namespace facet {

struct WorkerSeen {
  std::uint64_t incarnation = 0;  // of its present or last life
  bool is_running = false;        // and neither ending nor dying
  bool is_ready = false;
  bool is_disabled = false;
  std::uint32_t failed_starts = 0;  // own-fault deaths before it was ready, in a row
};

struct RollOrder {
  enum class What {
    kWait,
    kGoOn,    // ask again
    kDrain,   // tell the broker
    kEnd,     // ask it to end; start it now if it does not run
    kDone,    // of the workers
    kGiveUp,  // `text` says why; the others run on as they are
  };
  What what = What::kWait;
  std::uint32_t worker = 0;
  std::string text;  // progress to tell, or empty
};

class RollingRestart {
 public:
  struct Options {
    std::vector<std::uint32_t> workers;  // in this order
    std::uint64_t last_incarnation = 0;  // given so far: greater ones are new
    Nanos bound = 30 * kSecond;          // of one worker's drain
    Nanos patience = 600 * kSecond;      // for a worker to become ready
  };
  RollingRestart(Options options, Nanos now) : options_(std::move(options)), since_(now) {}

  // To be asked again after carrying an order out, until it says kWait, kDone or kGiveUp.
  RollOrder next(const std::vector<WorkerSeen>& workers, Nanos now);

  Nanos next_deadline() const;
  bool is_turn_of(std::uint32_t worker) const {
    return !is_over() && options_.workers[turn_] == worker;
  }
  std::string describe() const;  // "worker 1 of 0, 1, 2 drains"

 private:
  enum class Stage { kWaitingForOthers, kDraining, kStarting };

  bool is_over() const { return turn_ >= options_.workers.size(); }
  void enter(Stage stage, Nanos now);
  RollOrder begin(const std::vector<WorkerSeen>& workers, Nanos now);
  RollOrder follow_start(const WorkerSeen& worker, Nanos now);
  RollOrder order(RollOrder::What what, std::string text = {}) const;

  Options options_;
  std::size_t turn_ = 0;
  Stage stage_ = Stage::kWaitingForOthers;
  Nanos since_ = 0;  // of the stage
  bool has_told_ = false;
};

}  // namespace facet
