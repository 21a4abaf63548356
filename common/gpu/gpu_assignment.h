// Which GPU each worker of a configuration computes on.
#pragma once

#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/config/config.h"
#include "common/gpu/visible_gpus.h"

namespace facet {

// Whether the driver must be asked at all: a model's workers that take GPUs by name, or as many as
// there are. A count without names leaves it to worker i to take the i-th visible one.
bool needs_gpu_list(const WorkerConfig& worker);

// UUIDs, one a worker; empty: one worker on the CPU. kNotFound and kInvalidArgument name what
// worker.gpus asked for and what is visible.
Result<std::vector<std::string>> assign_gpus(const WorkerConfig& worker,
                                             const VisibleGpus& visible);

// `config` with its workers bound: worker.gpus and worker.count as assigned.
Config with_gpus(Config config, const std::vector<std::string>& uuids);

}  // namespace facet
