// From the configuration and what the driver lists to one GPU for each worker.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/config/config.h"
#include "common/gpu/host_gpus.h"

namespace facet {

// Used once, when facetd starts. GPUs stay those of the start: a restarted worker gets the one that
// it had, also when another has gone from the host meanwhile.
class GpuBinding {
 public:
  // Asks, where the answer matters. Errors: GPUs are wanted by name, and this host has no driver or
  // this build no GPU code.
  Status ask(const WorkerConfig& worker, const std::string& program_folder);

  // Waits for the answer. Errors: as assign_gpus() and HostGpuQuery::finish().
  Status bind();

  const std::vector<std::string>& uuids() const { return uuids_; }  // empty: none is bound
  Config bound(const Config& config) const;
  bool is_bad_config() const { return is_bad_config_; }  // the last error was about worker.gpus

 private:
  WorkerConfig worker_;
  std::optional<HostGpuQuery> query_;
  std::vector<std::string> uuids_;
  bool is_bad_config_ = false;
};

}  // namespace facet
