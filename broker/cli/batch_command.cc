#include "broker/cli/batch_command.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>

#include "broker/cli/batch_runner.h"
#include "broker/cli/exit_codes.h"
#include "broker/cli/past_failures.h"
#include "broker/cli/run_command.h"
#include "broker/cli/stop_signal.h"

namespace facet {
namespace {

constexpr std::size_t kShownFailures = 20;
constexpr Nanos kRetryFor = 600 * kSecond;

int usage(const Error& error) {
  std::fprintf(stderr, "facet: %s\n", error.message.c_str());
  return kCliUsage;
}

// A full disk is no wrong use.
int report_file(const Error& error) {
  usage(error);
  return error.code == Code::kExhausted ? kCliFailed : kCliUsage;
}

Result<BatchItems> list_items(const BatchOptions& options) {
  const bool has_prompt = !options.prompt.prompt.empty() || !options.prompt.prompt_file.empty();
  BatchItems items;
  if (!options.questions.empty()) {
    if (has_prompt || !options.sources.empty()) {
      return Error(Code::kInvalidArgument,
                   "--questions brings its own images and prompts: give no other");
    }
    items = FACET_TRY(list_questions(options.questions));
  } else {
    const std::string prompt = FACET_TRY(read_prompt(options.prompt));
    if (options.sources.empty()) {
      return Error(Code::kInvalidArgument, "give images: folders, files or patterns");
    }
    items = FACET_TRY(list_images(options.sources, options.recursive, prompt));
  }
  if (items.items.empty()) {
    const std::string skipped = std::to_string(items.skipped_other) + " other files and " +
                                std::to_string(items.skipped_links) + " links were skipped";
    return Error(Code::kInvalidArgument, "there is nothing to ask about; " + skipped);
  }
  // What would fail for every image is wrong use. Each question of a file is judged by itself.
  const bool is_common = options.questions.empty();
  FACET_TRY_STATUS(
      check_request(options.prompt, is_common ? items.items[0].prompt : "x", is_common ? 1 : 0));
  return items;
}

RowFormat row_format(const BatchOptions& options) {
  const bool is_csv =
      options.format.empty() ? options.output.ends_with(".csv") : options.format == "csv";
  return is_csv ? RowFormat::kCsv : RowFormat::kJsonl;
}

void say_what_is_skipped(const BatchItems& items, const ResultFile& file, Progress& progress) {
  if (items.skipped_other > 0) {
    progress.message("facet: " + std::to_string(items.skipped_other) +
                     " files are not JPEG, PNG or WebP by their name and are skipped");
  }
  if (items.skipped_links > 0) {
    progress.message("facet: " + std::to_string(items.skipped_links) +
                     " symbolic links are skipped");
  }
  if (file.dropped_torn_line()) {
    progress.message("facet: the output's last line was torn; its image is asked again");
  }
}

// Says what of an earlier run is asked again, and takes those lines out.
Status forget_failures(ResultFile& file, const BatchItems& items, const BatchOptions& options,
                       const std::string& model, Progress& progress) {
  const auto which = options.retry_failed ? DropFailures::kAll : DropFailures::kChanged;
  const std::size_t dropped = FACET_TRY(drop_failures(file, items, options.prompt, model, which));
  const std::string again = std::to_string(dropped) + " failures";
  if (options.retry_failed) {
    progress.message("facet: " + again + " are asked again");
  } else if (dropped > 0) {
    progress.message("facet: " + again + " of files that have changed are asked again");
  }
  return {};
}

void print_failures(const std::vector<std::string>& failures) {
  if (failures.empty()) return;
  std::fprintf(stderr, "Failed:\n");
  for (std::size_t i = 0; i < std::min(failures.size(), kShownFailures); ++i) {
    std::fprintf(stderr, "  %s\n", failures[i].c_str());
  }
  if (failures.size() > kShownFailures) {
    std::fprintf(stderr, "  and %zu more; see \"error\" in the output\n",
                 failures.size() - kShownFailures);
  }
}

void print_summary(const BatchCounts& counts, double seconds, const std::string& output) {
  const double rate = seconds > 0.0 ? static_cast<double>(counts.now_done()) / seconds : 0.0;
  std::fprintf(stderr,
               "%zu images: %zu answered, %zu failed, %zu done earlier, %zu left; %.1f s, "
               "%.1f images/s, %llu tokens; %s\n",
               counts.total, counts.answered, counts.failed + counts.skipped_failed, counts.skipped,
               counts.total - counts.done(), seconds, rate,
               static_cast<unsigned long long>(counts.tokens), output.c_str());
}

int run_batch(const BatchOptions& options, const BatchItems& items, ResultFile& file,
              DaemonSession& session, Progress& progress) {
  const auto facts = session.wait_for_worker();
  if (!facts) return report_no_daemon(facts.error());
  const Status forgotten = forget_failures(file, items, options, facts->model, progress);
  if (!forgotten) return report_file(forgotten.error());
  BatchLimits limits;
  limits.in_flight = options.in_flight;
  const Nanos start = monotonic_now();
  BatchRunner runner(session, options.prompt, *facts, row_format(options), limits, file, progress);
  const auto end = runner.run(items);
  progress.clear();
  print_failures(runner.failures());
  print_summary(runner.counts(), static_cast<double>(monotonic_now() - start) / kSecond,
                options.output);
  if (end == BatchRunner::End::kStopped) {
    std::fprintf(stderr, "facet: stopped: %s\nThe same command goes on where it ended.\n",
                 runner.error().message.c_str());
    return runner.error().code == Code::kClosed ? kCliNoDaemon : kCliFailed;
  }
  if (end == BatchRunner::End::kInterrupted) {
    std::fprintf(stderr, "facet: interrupted; the same command goes on where it ended.\n");
    return kCliInterrupted;
  }
  return runner.failures().empty() ? kCliOk : kCliFailed;
}

}  // namespace

void add_batch_command(CLI::App& app, BatchOptions& options) {
  app.add_option("source", options.sources, "folders, image files (JPEG, PNG, WebP) or patterns");
  add_prompt_options(app, options.prompt);
  app.add_option("--questions", options.questions,
                 "JSON lines instead: {\"image\": path beside this file, \"question\": text}");
  app.add_option("-o,--output", options.output,
                 "the answers, a line each; goes on with a file "
                 "that exists")
      ->required();
  app.add_option("--format", options.format, "jsonl or csv (by the output's name)")
      ->check(CLI::IsMember({"jsonl", "csv"}));
  app.add_option("--in-flight", options.in_flight, "requests at once (twice what the workers hold)")
      ->check(CLI::Range(1, 4096));
  app.add_flag("-r,--recursive", options.recursive, "folders within folders too");
  app.add_flag("--retry-failed", options.retry_failed, "ask again where an earlier run failed");
  app.add_flag("-q,--quiet", options.quiet, "no progress");
  app.footer(R"(Examples:
  facet batch photos/ -p "What is in this picture?" -o answers.jsonl
  facet batch 'scans/*.png' -p "Which number is written here?" -o numbers.csv --max-tokens 8
  facet batch photos/ --recursive --prompt-file question.txt -o answers.jsonl --retry-failed
  facet batch --questions configs/samples/samples.jsonl -o answers.jsonl

Each line of the output holds the image, its content's key, the answer, or an "error". Run the same
command again to go on after an interruption: what is answered is not asked again, whatever the
files are called by then; a failure is, once its file has changed. Ctrl-C finishes the answers under
way; a second one leaves them. Symbolic links inside folders are skipped; one that is named, or that
a pattern matches, is followed.
Without a running daemon a private one is started; `facet run --help` says with which model.
Exit codes: 0 all answered, 1 some failed or the output cannot be written, 2 wrong use, 3 no daemon,
130 interrupted.)");
}

int batch_command(const BatchOptions& options) {
  const auto items = list_items(options);
  if (!items) return usage(items.error());
  install_stop_signals();
  auto file = ResultFile::open(options.output, row_format(options));
  if (!file) return report_file(file.error());
  Progress progress(stderr, ::isatty(STDERR_FILENO) == 1, options.quiet);
  say_what_is_skipped(*items, *file, progress);
  ClientOptions client_options;
  client_options.retry_for = kRetryFor;
  auto session = DaemonSession::open(options.prompt.daemon, client_options);
  if (!session) return report_no_daemon(session.error());
  return run_batch(options, *items, *file, *session, progress);
}

}  // namespace facet
