// The other programs of this build: in the folder of the running one.
#pragma once

#include <string>
#include <vector>

#include "common/base/result.h"

namespace facet {

std::string own_folder();

// kNotFound: it is not there, or cannot be executed.
Result<std::string> find_sibling(const std::string& name);

// Replaces this process. Returns only on failure.
Error exec_program(const std::string& path, const std::vector<std::string>& arguments);

struct ProgramOutput {
  int exit_code = 0;  // or 128 + signal
  std::string output;
  std::string errors;
};

// Runs it without input, and returns what it said: at most 1 MiB of each.
Result<ProgramOutput> capture_program(const std::string& path,
                                      const std::vector<std::string>& arguments);

// Runs it with this process's descriptors; its exit code, or 128 + signal when it was killed.
Result<int> run_program(const std::string& path, const std::vector<std::string>& arguments);

}  // namespace facet
