#include "broker/cli/socket_search.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "broker/cli/siblings.h"
#include "common/client/client.h"
#include "common/config/config.h"

namespace facet {
namespace {

constexpr int kParentFolders = 4;  // <tree>/build/<preset>/bin/facet, or <prefix>/bin/facet

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

}  // namespace

void add_daemon_options(CLI::App& app, DaemonOptions& daemon) {
  auto* socket = app.add_option("--socket", daemon.socket, "the daemon's socket");
  app.add_option("--config", daemon.config, "the daemon of this configuration")->excludes(socket);
}

Result<SocketChoice> choose_sockets(const DaemonOptions& options) {
  if (!options.socket.empty()) return SocketChoice{{options.socket}, true};
  if (!options.config.empty()) {
    const Config config = FACET_TRY(load_config(options.config));
    return SocketChoice{{config.broker.socket}, false};  // else a private one with this config
  }
  if (const std::string named = environment("FACET_SOCKET"); !named.empty()) {
    return SocketChoice{{named}, true};
  }
  SocketChoice choice{{default_socket_path()}, false};
  const std::string session = environment("XDG_RUNTIME_DIR");
  for (const std::string& more : {session.empty() ? std::string() : session + "/facet/facet.sock",
                                  std::string("/run/facet/facet.sock")}) {
    if (more.empty() || std::ranges::count(choice.paths, more) > 0) continue;
    choice.paths.push_back(more);
  }
  return choice;
}

Result<std::string> find_daemon(const SocketChoice& choice) {
  std::string tried;
  for (const std::string& path : choice.paths) {
    const Status reachable = check_socket(path);
    if (reachable) return path;
    tried += (tried.empty() ? "" : "; ") + reachable.error().message;
  }
  return Error(Code::kNotFound, "no daemon is running (" + tried + ")");
}

Result<std::string> default_model() {
  if (std::string named = environment("FACET_MODEL"); !named.empty()) return named;
  std::filesystem::path folder = own_folder();
  for (int i = 0; i < kParentFolders && folder.has_relative_path(); ++i) {
    folder = folder.parent_path();
    for (const char* place : {"configs/demo-model", "share/facet/demo-model"}) {
      std::error_code ignored;
      if (std::filesystem::exists(folder / place / "config.json", ignored)) {
        return (folder / place).string();
      }
    }
  }
  return Error(Code::kNotFound,
               "no model: give --model DIR or set FACET_MODEL (a Hugging Face directory)");
}

}  // namespace facet
