// The options of a life as text, and the smallest ones that still fail.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "tests/simulator/simulation.h"

namespace facet::sim {

// "seed=7 max_events=900 num_workers=2 .."; parse_options() reads it back. A key that is left out
// keeps its value of `base`; nothing for an unknown key or a bad value.
std::string describe(const SimOptions& options);
std::optional<SimOptions> parse_options(std::string_view text, SimOptions base = {});

struct Failure {
  SimOptions options;
  std::uint64_t num_events = 0;
  std::string violation;
};

// Runs one life. Nothing when every invariant held.
std::optional<Failure> run_life(const SimOptions& options);

// Makes a failing life smaller for as long as it still fails, in whatever way: fewer events, fewer
// clients and workers, faults switched off. `max_runs` bounds the lives tried.
Failure shrink(Failure failing, int max_runs = 300);

}  // namespace facet::sim
