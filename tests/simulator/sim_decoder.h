// The simulated decoder: children that read encoded bytes and write pixels into the ring, for a
// while even after the decoder itself has died.
#pragma once

#include <cstdint>
#include <memory>

#include "common/control/packets.h"
#include "tests/simulator/simulation.h"

namespace facet::sim {

class SimDecoder {
 public:
  explicit SimDecoder(Simulation& sim) : sim_(sim) {}

  void start();     // after a broker start
  void kill_all();  // with the broker: nobody is told
  void job(const DecodeJob& job);

 private:
  struct Life {
    bool is_up = true;          // answers
    bool answers_late = false;  // after its end: what it had sent before
    bool children_live = true;  // write; ends with the reaping
    Link up;
  };
  using LifePtr = std::shared_ptr<Life>;

  void start_life();
  void crash(const LifePtr& life);
  DecodeOutcome decode(const DecodeJob& job, std::uint64_t slot_word);
  std::uint64_t slot_word(const DecodeJob& job);

  Simulation& sim_;
  LifePtr life_;
  std::uint64_t broker_ = 0;
  Link control_;
};

}  // namespace facet::sim
