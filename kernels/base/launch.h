// How a kernel is put on a stream.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

namespace facet::kernels {

// Rules of every launch in this room: it allocates nothing, synchronizes nothing, may be captured
// into a graph, and returns cudaErrorInvalidValue, with nothing launched, for shapes outside of its
// contract. Errors of the launch itself come back as CUDA names them.
struct Launch {
  cudaStream_t stream = nullptr;

  // Programmatic dependent launch: the kernel may start while the one before it on the stream still
  // runs, and waits itself before it reads or writes anything but weights. Right after any kernel
  // or copy; inside a graph the edge becomes programmatic. Ignored below compute capability 9.0.
  bool programmatic = false;
};

// Facts of the current device that launches are sized by; read once per device.
struct DeviceFacts {
  int capability = 0;  // 10 * major + minor
  int num_sms = 0;
  std::size_t shared_bytes = 0;  // most that one block may have
};
const DeviceFacts& device_facts();

}  // namespace facet::kernels
