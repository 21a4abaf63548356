// What `run` and `batch` have in common: the daemon, the prompt, the sampling.
#pragma once

#include <string>
#include <vector>

#include "broker/cli/socket_search.h"
#include "common/protocol/messages.h"

namespace CLI {
class App;
}

namespace facet {

struct PromptOptions {
  DaemonOptions daemon;
  std::string prompt;  // "-": standard input
  std::string prompt_file;
  std::string system;
  SamplingParams sampling;
  double deadline_s = 0.0;  // 0 = the server's default
};

void add_prompt_options(CLI::App& app, PromptOptions& options);

// The prompt's text, from wherever it comes; one newline at its end is dropped.
// kInvalidArgument: both or neither were given, or it is too long.
Result<std::string> read_prompt(const PromptOptions& options);

// System text, images 0 .. num_images - 1, then the prompt.
GenerateRequest make_request(const PromptOptions& options, const std::string& prompt,
                             std::size_t num_images, Priority priority);

// The daemon's own checks of such a request, before anything is started or written. The message
// names the parameter and its limit.
Status check_request(const PromptOptions& options, const std::string& prompt,
                     std::size_t num_images);

}  // namespace facet
