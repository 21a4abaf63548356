// `facet top`: the state of a daemon, again and again.
#pragma once

#include <string>

#include "broker/cli/socket_search.h"
#include "common/base/clock.h"
#include "common/base/result.h"

namespace CLI {
class App;
}

namespace facet {

struct TopOptions {
  DaemonOptions daemon;
  double interval = 1.0;  // seconds
  int count = 0;          // of looks; 0: until interrupted
};

void add_top_command(CLI::App& app, TopOptions& options);
int top_command(const TopOptions& options);

// What happened between two looks, from the counters of both: "12.5 answers/s, 340 tokens/s".
// Empty when they are of two brokers, or no time has passed.
std::string rates_text(const std::string& before, const std::string& after, Nanos elapsed);

}  // namespace facet
