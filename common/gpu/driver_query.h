// What the child of host_gpus.h does: loads the driver's libraries and asks them. Never called in a
// process that goes on: what they leave behind (threads, memory, device files) ends with it.
#pragma once

#include "common/base/result.h"
#include "common/gpu/host_gpus.h"

namespace facet {

Result<HostGpus> query_driver();

}  // namespace facet
