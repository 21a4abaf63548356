// CUDA_VISIBLE_DEVICES as CUDA reads it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/gpu/host_gpus.h"

namespace facet {

struct VisibleGpus {
  std::vector<HostGpu> gpus;
  // Why the list ended before the variable's did; empty if it did not.
  std::string warning;
  std::size_t num_hidden = 0;  // GPUs of the host that are not in the list
};

// `value`: the variable, or none where it is not set (all are visible). Entries are indices into
// `all`, UUIDs or beginnings of one that fit a single GPU, in the order wanted; "MIG-..." is a
// slice that the list does not show and is taken as it is. The first entry that is none of these,
// or names a GPU again, ends the list: what stands before it is visible.
VisibleGpus visible_gpus(const std::vector<HostGpu>& all, const std::optional<std::string>& value);

// Of this process.
std::optional<std::string> cuda_visible_devices();

// The GPU that `name` means among `gpus`: an index, a UUID or a beginning that fits one alone.
// -1: none, or several.
int find_gpu(const std::vector<HostGpu>& gpus, const std::string& name);

// "0 (NVIDIA H200, GPU-...), 1 (...)", or "none".
std::string gpu_list_text(const std::vector<HostGpu>& gpus);

}  // namespace facet
