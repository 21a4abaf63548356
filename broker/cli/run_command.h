// `facet run`: one question, streamed.
#pragma once

#include <string>
#include <vector>

#include "broker/cli/prompt_options.h"

namespace facet {

struct RunOptions {
  PromptOptions prompt;
  std::vector<std::string> images;
  bool json = false;
};

void add_run_command(CLI::App& app, RunOptions& options);
int run_command(const RunOptions& options);

// Prints "facet: message" to standard error and returns the exit code that fits the error of an
// attempt to reach a daemon.
int report_no_daemon(const Error& error);

}  // namespace facet
