#include "worker/service/arguments.h"

#include <CLI/CLI.hpp>

#include "common/control/fds.h"

namespace facet {

std::optional<int> parse_arguments(int argc, char** argv, WorkerArguments& arguments) {
  CLI::App app("A worker process of Facet. Started by facetd, which hands it descriptors.");
  auto* config = app.add_option("--config", arguments.config_path, "configuration, TOML");
  app.add_option("--worker", arguments.worker, "index of this worker");
  app.add_option("--incarnation", arguments.incarnation, "names this life of the worker");
  auto* socket = app.add_option("--worker-socket", arguments.socket_path,
                                "where the broker listens for workers");
  auto* tokenize = app.add_option("--tokenize", arguments.tokenize_dir,
                                  "print the token ids of standard input for the model in this "
                                  "directory; needs no daemon");
  config->excludes(tokenize);
  try {
    app.parse(argc, argv);
    if (tokenize->count() == 0 && (config->count() == 0 || socket->count() == 0)) {
      throw CLI::RequiredError("--config and --worker-socket, or --tokenize,");
    }
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  return std::nullopt;
}

}  // namespace facet
