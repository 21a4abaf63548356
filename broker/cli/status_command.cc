#include "broker/cli/status_command.h"

#include <CLI/CLI.hpp>
#include <cstdio>

#include "broker/cli/exit_codes.h"
#include "broker/cli/run_command.h"
#include "broker/cli/standard_output.h"
#include "broker/cli/status_table.h"
#include "common/client/client.h"

namespace facet {
namespace {

constexpr Nanos kAnswerTime = 5 * kSecond;

Result<std::string> ask(const StatusOptions& options) {
  const SocketChoice choice = FACET_TRY(choose_sockets(options.daemon));
  const std::string socket = FACET_TRY(find_daemon(choice));
  Client client = FACET_TRY(Client::connect(socket));
  return client.status(kAnswerTime);
}

int show(const std::string& text) {
  const Status written = print_now(text);
  if (!written) std::fprintf(stderr, "facet: %s\n", written.error().message.c_str());
  return written ? kCliOk : kCliFailed;
}

}  // namespace

void add_status_command(CLI::App& app, StatusOptions& options) {
  add_daemon_options(app, options.daemon);
  app.add_flag("--json", options.json, "the daemon's own JSON object");
  app.footer(R"(Examples:
  facet status
  facet status --json | jq '.workers[].state'
  facet status --config /etc/facet/facet.toml

Exit codes: 0 shown, 2 wrong use, 3 no daemon.)");
}

int status_command(const StatusOptions& options) {
  const auto json = ask(options);
  if (!json) return report_no_daemon(json.error());
  if (options.json) {
    return show(*json + "\n");
  }
  const auto table = status_table(*json);
  if (!table) {
    std::fprintf(stderr, "facet: %s\n", table.error().message.c_str());
    return kCliFailed;
  }
  return show(*table);
}

}  // namespace facet
