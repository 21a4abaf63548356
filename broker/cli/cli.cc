#include "broker/cli/cli.h"

#include <CLI/CLI.hpp>
#include <cstdio>

#include "broker/cli/batch_command.h"
#include "broker/cli/doctor_command.h"
#include "broker/cli/exit_codes.h"
#include "broker/cli/model_commands.h"
#include "broker/cli/operator_commands.h"
#include "broker/cli/run_command.h"
#include "broker/cli/status_command.h"
#include "broker/cli/top_command.h"

namespace facet {
namespace {

struct AllOptions {
  RunOptions run;
  BatchOptions batch;
  StatusOptions status;
  TopOptions top;
  RestartOptions restart;
  DrainOptions drain;
  ReloadOptions reload;
  TokenizeOptions tokenize;
  PlanOptions plan;
  DoctorOptions doctor;
};

int dispatch(const CLI::App& app, const AllOptions& options) {
  if (app.got_subcommand("run")) return run_command(options.run);
  if (app.got_subcommand("batch")) return batch_command(options.batch);
  if (app.got_subcommand("status")) return status_command(options.status);
  if (app.got_subcommand("top")) return top_command(options.top);
  if (app.got_subcommand("restart")) return restart_command(options.restart);
  if (app.got_subcommand("drain")) return drain_command(options.drain);
  if (app.got_subcommand("reload")) return reload_command(options.reload);
  if (app.got_subcommand("tokenize")) return tokenize_command(options.tokenize);
  if (app.got_subcommand("doctor")) return doctor_command(options.doctor);
  return plan_command(options.plan);
}

}  // namespace

int run_cli(int argc, char** argv) try {
  CLI::App app("Facet: answers about images, from the GPUs (or the CPU) of this host.", "facet");
  AllOptions options;
  app.require_subcommand(1);
  app.set_version_flag("--version", FACET_VERSION);
  add_run_command(*app.add_subcommand("run", "one question, its answer streamed"), options.run);
  add_batch_command(*app.add_subcommand("batch", "a question about each image of a folder"),
                    options.batch);
  add_status_command(*app.add_subcommand("status", "the daemon's workers, queue and memory"),
                     options.status);
  add_top_command(*app.add_subcommand("top", "the same, again and again"), options.top);
  add_restart_command(*app.add_subcommand("restart", "replaces workers while the daemon serves"),
                      options.restart);
  add_drain_command(*app.add_subcommand("drain", "finishes what is accepted, then ends the daemon"),
                    options.drain);
  add_reload_command(*app.add_subcommand("reload", "puts the configuration file in effect"),
                     options.reload);
  add_tokenize_command(*app.add_subcommand("tokenize", "a text's token ids"), options.tokenize);
  add_plan_command(*app.add_subcommand("plan", "what a model needs, before it is loaded"),
                   options.plan);
  add_doctor_command(*app.add_subcommand("doctor", "what this host has, lacks, and what to do"),
                     options.doctor);
  app.footer(R"(Examples:
  facet run photo.jpg -p "What is in this picture?"
  facet batch photos/ -p "What is in this picture?" -o answers.jsonl
  facet status
`facet COMMAND --help` says more.)");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kCliOk : kCliUsage;
  }
  return dispatch(app, options);
} catch (const std::exception& error) {  // of a library; our own code returns its errors
  std::fprintf(stderr, "facet: %s\n", error.what());
  return kCliFailed;
}

}  // namespace facet
