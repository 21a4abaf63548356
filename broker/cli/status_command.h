// `facet status`.
#pragma once

#include "broker/cli/socket_search.h"

namespace CLI {
class App;
}

namespace facet {

struct StatusOptions {
  DaemonOptions daemon;
  bool json = false;
};

void add_status_command(CLI::App& app, StatusOptions& options);
int status_command(const StatusOptions& options);

}  // namespace facet
