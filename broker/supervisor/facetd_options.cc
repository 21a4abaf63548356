#include "broker/supervisor/facetd_options.h"

#include <CLI/CLI.hpp>

#include "common/control/fds.h"

namespace facet {

std::optional<int> parse_options(int argc, char** argv, FacetdOptions& options) {
  bool is_foreground = true;
  CLI::App app(
      "facetd runs and watches Facet's processes on this host: broker, decoder, workers.\n"
      "SIGTERM lets running requests end, then stops; a second SIGTERM stops at once.");
  app.add_option("--config", options.config_path, "configuration, TOML")->required();
  app.add_flag("--check-config", options.is_check_only,
               "say whether the configuration is good, or all that is wrong with it, and exit");
  app.add_option("--runtime-dir", options.runtime_dir,
                 "folder of the sockets, instead of broker.runtime_dir");
  app.add_option("--ready-fd", options.ready_fd,
                 "descriptor that gets one byte when the first worker is ready");
  app.add_flag("--exit-with-parent", options.ends_with_parent,
               "stop at once when the process that started this one is gone");
  app.add_flag("--foreground", is_foreground, "stay in the foreground (there is no other way)");
  app.set_version_flag("--version", "facetd 0.1.0");
  app.footer("Example: facetd --config configs/facet.toml");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  return std::nullopt;
}

}  // namespace facet
