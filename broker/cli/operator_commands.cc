#include "broker/cli/operator_commands.h"

#include <CLI/CLI.hpp>
#include <charconv>
#include <cstdio>

#include "broker/cli/exit_codes.h"
#include "broker/cli/operator_link.h"
#include "broker/cli/run_command.h"
#include "broker/cli/standard_output.h"
#include "broker/cli/stop_signal.h"

namespace facet {
namespace {

constexpr std::uint64_t kDayMs = 24ull * 3600 * 1000;

int report(const Error& error) {
  const int exit_code = report_no_daemon(error);
  if (error.code == Code::kUnsupported) return kCliNotPermitted;
  return error.code == Code::kClosed ? kCliFailed : exit_code;
}

// Lines of progress go to standard output as they come.
int ask(const DaemonOptions& daemon, const OperatorRequest& request, const char* on_interrupt) {
  install_stop_signals();
  const auto link = connect_operator(daemon);
  if (!link) return report(link.error());
  const auto answer = ask_operator(*link, request, [](const std::string& line) {
    static_cast<void>(print_now(line + "\n"));  // nobody reads: what was asked for still counts
  });
  if (!answer) {
    const bool goes_on = answer.error().code == Code::kCancelled && on_interrupt != nullptr;
    if (!goes_on) return report(answer.error());
    std::fprintf(stderr, "facet: %s\n", on_interrupt);
    return kCliInterrupted;
  }
  if (answer->exit_code == kCliOk) {
    static_cast<void>(print_now(answer->text + "\n"));
  } else {
    std::fprintf(stderr, "facet: %s\n", answer->text.c_str());
  }
  return answer->exit_code;
}

bool set_bound(OperatorRequest& request, const std::string& deadline) {
  if (deadline.empty()) return true;
  const auto milliseconds = parse_duration_ms(deadline);
  if (!milliseconds) {
    std::fprintf(stderr, "facet: --deadline %s: not a time from 0 to 24h, like 90s, 5m or 250ms\n",
                 deadline.c_str());
    return false;
  }
  request.has_bound = 1;
  request.bound_ms = *milliseconds;
  return true;
}

}  // namespace

std::optional<std::uint64_t> parse_duration_ms(const std::string& text) {
  std::uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc{} || rest == text.data()) return std::nullopt;
  const std::string unit(rest, end);
  std::uint64_t scale = 0;
  if (unit == "ms") scale = 1;
  if (unit.empty() || unit == "s") scale = 1000;
  if (unit == "m") scale = 60 * 1000;
  if (unit == "h") scale = 3600 * 1000;
  if (scale == 0 || number > kDayMs / scale) return std::nullopt;
  return number * scale;
}

void add_restart_command(CLI::App& app, RestartOptions& options) {
  add_daemon_options(app, options.daemon);
  auto* rolling = app.add_flag("--rolling", options.is_rolling,
                               "every worker, one after the other, then broker and decoder");
  app.add_option("--worker", options.worker, "this worker alone, by its index")
      ->check(CLI::NonNegativeNumber)
      ->excludes(rolling);
  app.add_option("--deadline", options.deadline,
                 "how long a worker may take to finish what it holds (90s, 5m); default: "
                 "supervisor.drain_ms");
  app.footer(R"(A worker gets nothing new, finishes what it holds, ends, and is started again; the
next one follows when it is ready. What it holds at the deadline goes on at the other workers,
at the next token. With one worker the requests wait. Streams pause for some 3 s when the broker
is replaced. Ctrl-C leaves the restart going on. The daemon as a whole is restarted by its
service manager.
Examples:
  facet restart --rolling
  facet restart --worker 1 --deadline 10s

Exit codes: 0 done, 1 given up or refused, 2 wrong use, 3 no daemon, 4 not permitted,
130 interrupted.)");
}

int restart_command(const RestartOptions& options) {
  if (!options.is_rolling && options.worker < 0) {
    std::fprintf(stderr, "facet: restart what? --rolling, or --worker N\n");
    return kCliUsage;
  }
  OperatorRequest request;
  request.kind = options.is_rolling ? OperatorKind::kRestartRolling : OperatorKind::kRestartWorker;
  request.worker = options.is_rolling ? 0 : static_cast<std::uint32_t>(options.worker);
  if (!set_bound(request, options.deadline)) return kCliUsage;
  return ask(options.daemon, request, "the restart goes on; `facet status` shows it");
}

void add_drain_command(CLI::App& app, DrainOptions& options) {
  add_daemon_options(app, options.daemon);
  auto* deadline = app.add_option("--deadline", options.deadline,
                                  "end after this time even if requests are unfinished (90s, 5m); "
                                  "default: when every accepted request has ended");
  app.add_flag("--cancel", options.is_cancel, "take a drain back: the daemon serves again")
      ->excludes(deadline);
  app.footer(R"(The daemon finishes what it has accepted, refuses new requests (`closed`, with a
hint when to come back), and ends with exit code 0. Ctrl-C leaves the drain going on.
Examples:
  facet drain
  facet drain --deadline 2m
  facet drain --cancel

Exit codes: 0 drained, 1 ended with requests unfinished, taken back or refused, 2 wrong use,
3 no daemon, 4 not permitted, 130 interrupted.)");
}

int drain_command(const DrainOptions& options) {
  OperatorRequest request;
  request.kind = options.is_cancel ? OperatorKind::kCancelDrain : OperatorKind::kDrain;
  if (!set_bound(request, options.deadline)) return kCliUsage;
  return ask(options.daemon, request,
             options.is_cancel ? nullptr : "the drain goes on; `facet drain --cancel` ends it");
}

void add_reload_command(CLI::App& app, ReloadOptions& options) {
  add_daemon_options(app, options.daemon);
  app.footer(R"(The daemon reads its configuration file again and puts it in effect, all of it or
nothing. What cannot change while it runs is refused by name, with what would do it.
Example:
  facet reload

Exit codes: 0 in effect, 1 refused, 2 wrong use, 3 no daemon, 4 not permitted,
130 interrupted.)");
}

int reload_command(const ReloadOptions& options) {
  OperatorRequest request;
  request.kind = OperatorKind::kReload;
  return ask(options.daemon, request, nullptr);
}

}  // namespace facet
