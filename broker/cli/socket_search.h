// Which daemon `facet` talks to.
#pragma once

#include <string>
#include <vector>

#include "common/base/result.h"

namespace CLI {
class App;
}

namespace facet {

struct DaemonOptions {
  std::string socket;       // --socket
  std::string config;       // --config
  std::string model;        // --model: a private daemon for this directory
  bool is_for_one = false;  // one request: a private daemon's one worker will do, on many GPUs too
};

// --socket and --config, for commands that need a daemon that runs.
void add_daemon_options(CLI::App& app, DaemonOptions& daemon);

// Where a daemon may listen. `is_named`: the user named it, so that nothing else will do.
struct SocketChoice {
  std::vector<std::string> paths;  // in order of preference
  bool is_named = false;
};

// --socket, --config, $FACET_SOCKET, then the default places. Fails when --config cannot be read.
Result<SocketChoice> choose_sockets(const DaemonOptions& options);

// The first path on which somebody listens; else an error that names all that were tried.
Result<std::string> find_daemon(const SocketChoice& choice);

// $FACET_MODEL, else configs/demo-model of the installation or source tree around this program.
// kNotFound: neither.
Result<std::string> default_model();

}  // namespace facet
