// The only place that knows toml++. Fills a Config from a text, key by key.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/config/config.h"

namespace facet {

struct ConfigProblem {
  int line = 0;      // 1 is the first; 0 = about the file as a whole
  std::string text;  // "worker.count: 65 is not between 0 and 64 (...)"
};

struct ReadConfig {
  Config config;                     // what was refused keeps its default
  std::map<std::string, int> lines;  // line of each key that the text holds
  std::vector<ConfigProblem> problems;
  bool syntax_error = false;  // the one problem is that the text is not TOML
};

// Syntax, names, types and each value's own bounds. What concerns several keys, and paths, is
// checked by the caller.
ReadConfig read_toml(std::string_view text);

}  // namespace facet
