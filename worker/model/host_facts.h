// What this machine offers.
#pragma once

#include <cstdint>

namespace facet {

// Cores this process may run on.
int available_cores();

// Bytes that can be taken without swapping: MemAvailable, or less where a cgroup limits.
std::uint64_t available_memory();

// The CPU multiplies bf16 itself (AVX512-BF16 or AMX).
bool cpu_has_bf16();

}  // namespace facet
