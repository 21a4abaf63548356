// What `facet doctor` looks at outside of its own programs.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>

#include "common/base/result.h"
#include "common/gpu/host_gpus.h"

namespace facet {

struct HostFacts {
  std::string cpu_name;
  std::set<std::string> cpu_flags;         // as /proc/cpuinfo spells them
  int cores = 0;                           // that this process may use
  std::uint64_t memory_bytes = 0;          // MemAvailable
  std::optional<std::uint64_t> shm_bytes;  // free in /dev/shm; none: no such file system
  std::uint64_t max_files = 0;             // hard limits of this process
  std::uint64_t max_locked = 0;
  Status sandbox;  // of a child that put the decoders' kind of filter on itself
};

HostFacts look_at_host();

struct GpuFacts {
  bool has_driver = false;
  bool has_code = false;  // facet-cuda.so lies beside this program
  std::optional<std::string> visible_devices;
  std::optional<Result<HostGpus>> host;  // asked where there is a driver
};

GpuFacts look_at_gpus(const std::string& program_folder);

// Pid of the process that holds a flock on this file; none: nobody does, or it is not to be seen.
std::optional<int> lock_holder(const std::string& path);

}  // namespace facet
