// `facet restart`, `facet drain`, `facet reload`: what an operator asks of a daemon.
#pragma once

#include <optional>
#include <string>

#include "broker/cli/socket_search.h"

namespace CLI {
class App;
}

namespace facet {

struct RestartOptions {
  DaemonOptions daemon;
  bool is_rolling = false;
  int worker = -1;
  std::string deadline;
};

struct DrainOptions {
  DaemonOptions daemon;
  std::string deadline;
  bool is_cancel = false;
};

struct ReloadOptions {
  DaemonOptions daemon;
};

void add_restart_command(CLI::App& app, RestartOptions& options);
void add_drain_command(CLI::App& app, DrainOptions& options);
void add_reload_command(CLI::App& app, ReloadOptions& options);
int restart_command(const RestartOptions& options);
int drain_command(const DrainOptions& options);
int reload_command(const ReloadOptions& options);

// "90", "90s", "5m", "1h", "250ms" in milliseconds; nothing for anything else, or beyond a day.
std::optional<std::uint64_t> parse_duration_ms(const std::string& text);

}  // namespace facet
