// Command line of a worker.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace facet {

struct WorkerArguments {
  std::string config_path;
  std::uint32_t worker = 0;
  std::uint64_t incarnation = 0;
  std::string socket_path;   // of the broker's listener for workers
  std::string tokenize_dir;  // not empty: print token ids of standard input, nothing else
};

// Fills `arguments`; says what is wrong, or --help, on the terminal and returns the exit code then.
std::optional<int> parse_arguments(int argc, char** argv, WorkerArguments& arguments);

}  // namespace facet
