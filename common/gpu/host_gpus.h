// The GPUs of this host as the driver lists them, asked for in a child process.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/result.h"
#include "common/base/unique_fd.h"

namespace facet {

struct HostGpu {
  std::string uuid;  // "GPU-" and 36 characters, in lower case; "MIG-..." of a slice
  std::string name;  // "NVIDIA H200"; empty for a slice that was only named
  int major = 0;     // compute capability
  int minor = 0;
  std::uint64_t total_bytes = 0;
  std::uint64_t free_bytes = 0;  // 0: the driver's management library is missing
};

struct HostGpus {
  std::vector<HostGpu> gpus;   // all, in CUDA's order, whatever CUDA_VISIBLE_DEVICES says
  int cuda_version = 0;        // the newest that the driver serves: 13000 is 13.0; 0: no driver
  std::string driver_version;  // "580.159.04"; empty: not known
};

// "13.0" of 13000.
std::string cuda_version_text(int version);

// Whether it is worth while to ask: the driver's control device is there.
bool has_gpu_driver();

// A question under way. A cold driver takes seconds a card to answer; other work goes on meanwhile.
class HostGpuQuery {
 public:
  static constexpr Nanos kPatience = 60 * kSecond;  // eight cold cards take some 20 s

  // Call where no other thread runs.
  static Result<HostGpuQuery> start();

  // The answer. No GPU at all is an empty list. kUnsupported: there is no driver, or it does not
  // work, in its words; kTimeout: none within `patience`.
  Result<HostGpus> finish(Nanos patience = kPatience);

  HostGpuQuery(HostGpuQuery&& other) noexcept;
  HostGpuQuery& operator=(HostGpuQuery&&) = delete;
  HostGpuQuery(const HostGpuQuery&) = delete;
  HostGpuQuery& operator=(const HostGpuQuery&) = delete;
  ~HostGpuQuery();  // ends the child

 private:
  HostGpuQuery(pid_t pid, UniqueFd answer) : pid_(pid), answer_(std::move(answer)) {}

  pid_t pid_ = -1;
  UniqueFd answer_;
};

// Both in one.
Result<HostGpus> host_gpus();

}  // namespace facet
