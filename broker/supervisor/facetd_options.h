// Command line of facetd.
#pragma once

#include <optional>
#include <string>

namespace facet {

struct FacetdOptions {
  std::string config_path;
  std::string runtime_dir;        // empty: as the configuration says
  bool is_check_only = false;
  int ready_fd = -1;              // gets one byte when the first worker is ready
  bool ends_with_parent = false;  // a private daemon
};

// Fills `options`; says what is wrong, or --help, on the terminal and returns the exit code then.
std::optional<int> parse_options(int argc, char** argv, FacetdOptions& options);

}  // namespace facet
