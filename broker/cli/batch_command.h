// `facet batch`: a question about each image of a folder, answers into a file.
#pragma once

#include <string>
#include <vector>

#include "broker/cli/prompt_options.h"

namespace facet {

struct BatchOptions {
  PromptOptions prompt;
  std::vector<std::string> sources;
  std::string questions;
  std::string output;
  std::string format;  // empty: by the output's extension
  std::size_t in_flight = 0;
  bool recursive = false;
  bool retry_failed = false;
  bool quiet = false;
};

void add_batch_command(CLI::App& app, BatchOptions& options);
int batch_command(const BatchOptions& options);

}  // namespace facet
