// What a child that meets untrusted image bytes may still do: compute, take memory, write its
// answer, end. Everything else kills it with SIGSYS.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <vector>

#include "common/base/result.h"

namespace facet {

struct SandboxLimits {
  std::uint32_t cpu_seconds = 10;           // SIGXCPU after that
  std::uint64_t memory_bytes = 1ull << 30;  // address space, shared runs included
};

// The seccomp filter, compiled once by the server: writing is allowed on `result_fd` alone.
Result<std::vector<sock_filter>> build_sandbox_filter(int result_fd);

// Limits, no_new_privs, filter: in this order, for good. Call in the child, after its mappings.
Status enter_sandbox(const std::vector<sock_filter>& filter, const SandboxLimits& limits);

}  // namespace facet
