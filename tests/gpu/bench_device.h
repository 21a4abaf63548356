// What the bench runs on the device besides the kernels under test.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

namespace facet::kernels {

// Reads every byte once with 16-byte loads, eight in flight a thread. bytes: a multiple of 128 KB.
cudaError_t read_all(const void* data, std::size_t bytes, unsigned* sink, cudaStream_t stream);

// Small random bf16 values, about normal(0, scale).
cudaError_t fill_bf16(void* data, std::size_t count, float scale, unsigned seed,
                      cudaStream_t stream);

}  // namespace facet::kernels
