// Linked with a core in which one rule is broken: if no seed finds it, the simulator is blind.
#include <gtest/gtest.h>

#include <iostream>

#include "tests/simulator/simulation.h"

namespace facet::sim {
namespace {

TEST(SimulatorMutant, IsFound) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    Simulation simulation(SimOptions::from_seed(seed, 20'000));
    if (const auto violation = simulation.run()) {
      std::cout << "seed " << seed << " after " << simulation.num_events()
                << " events: " << *violation << std::endl;
      return;
    }
  }
  FAIL() << "60 lives found nothing";
}

}  // namespace
}  // namespace facet::sim
