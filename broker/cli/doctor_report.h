// What `facet doctor` found, as a table or as JSON.
#pragma once

#include <string>
#include <vector>

#include "common/gpu/host_gpus.h"

namespace facet {

enum class Level { kOk, kWarning, kError };

struct Finding {
  std::string subject;  // one word: "config", "gpu", ...
  Level level = Level::kOk;
  std::string text;    // what is so
  std::string advice;  // what to do about it; empty where nothing needs doing
};

struct DoctorReport {
  std::vector<Finding> findings;
  std::vector<HostGpu> gpus;  // the visible ones

  void ok(std::string subject, std::string text);
  void warn(std::string subject, std::string text, std::string advice);
  void fail(std::string subject, std::string text, std::string advice);
  bool has_errors() const;

  // A line each, the advice below it, and a last line that counts.
  std::string text() const;
  // {"version", "ok", "errors", "warnings", "checks": [{"subject", "level", "text", "advice"}],
  // "gpus": [{"index", "uuid", "name", "compute_capability", "memory_bytes", "free_bytes"}]}
  std::string json(const std::string& version) const;
};

}  // namespace facet
