// Many short hostile lives; README.md has the variables that choose them.
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <optional>

#include "tests/simulator/sim_shrink.h"
#include "tests/simulator/simulation.h"

namespace facet::sim {
namespace {

constexpr std::uint64_t kEventsPerRun = 10'000;

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

TEST(Simulator, EveryInvariantHoldsOverManyLives) {
  const std::uint64_t events = from_environment("FACET_SIM_EVENTS", 3'000'000);
  const std::uint64_t only = from_environment("FACET_SEED", 0);
  const std::uint64_t first = from_environment("FACET_FIRST_SEED", 1);
  const char* options = std::getenv("FACET_SIM_OPTIONS");
  std::uint64_t done = 0;
  std::uint64_t seed = only != 0 ? only : first;
  for (; done < events; ++seed) {
    auto drawn = std::optional(SimOptions::from_seed(seed, kEventsPerRun));
    drawn->descriptors = seed % 2 == 0;
    if (options != nullptr) drawn = parse_options(options);
    ASSERT_TRUE(drawn.has_value()) << "FACET_SIM_OPTIONS cannot be read: " << options;
    Simulation simulation(*drawn);
    const auto violation = simulation.run();
    done += simulation.num_events();
    if (only != 0 || options != nullptr || violation) {
      std::cout << simulation.summary() << std::endl;
    }
    if (violation) {
      const Failure small = shrink({*drawn, simulation.num_events(), *violation});
      FAIL() << *violation << "\nreplay with FACET_SEED=" << seed << " (" << done
             << " events); the smallest life that fails:\nFACET_SIM_OPTIONS=\""
             << describe(small.options) << "\"\n"
             << small.violation;
    }
    if (only != 0 || options != nullptr) break;
  }
  std::cout << done << " events, seeds " << (only != 0 ? only : first) << " to " << seed - 1
            << std::endl;
}

TEST(Simulator, TheSameSeedIsTheSameLife) {
  const auto life = [] {
    Simulation simulation(SimOptions::from_seed(4711, 5'000));
    EXPECT_FALSE(simulation.run().has_value());
    return simulation.summary();
  };
  EXPECT_EQ(life(), life());
}

}  // namespace
}  // namespace facet::sim
