#include <cuda_bf16.h>

#include <cstdint>

#include "tests/gpu/bench_device.h"

namespace facet::kernels {
namespace {

constexpr int kThreads = 512;
constexpr int kInFlight = 8;

__global__ void read_kernel(const uint4* data, std::size_t words, unsigned* sink) {
  const std::size_t stride = static_cast<std::size_t>(gridDim.x) * kThreads * kInFlight;
  unsigned sum = 0;
  for (std::size_t base = static_cast<std::size_t>(blockIdx.x) * kThreads * kInFlight + threadIdx.x;
       base < words; base += stride) {
    uint4 v[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const uint4* from = data + base + static_cast<std::size_t>(i) * kThreads;
      asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                   : "=r"(v[i].x), "=r"(v[i].y), "=r"(v[i].z), "=r"(v[i].w)
                   : "l"(from));
    }
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) sum ^= v[i].x ^ v[i].y ^ v[i].z ^ v[i].w;
  }
  if (sum == 0x12345678U) *sink = sum;
}

__device__ std::uint32_t mix(std::uint32_t x) {
  x ^= x >> 16;
  x *= 0x7feb352dU;
  x ^= x >> 15;
  x *= 0x846ca68bU;
  return x ^ x >> 16;
}

__global__ void fill_kernel(__nv_bfloat16* data, std::size_t count, float scale, unsigned seed) {
  const std::size_t stride = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  for (std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += stride) {
    const std::uint32_t bits =
        mix(static_cast<std::uint32_t>(i) ^ mix(seed + static_cast<std::uint32_t>(i >> 32)));
    // A sum of four uniforms is near enough to normal; its deviation is 1 / sqrt(3).
    const float sum = static_cast<float>(bits & 255) + static_cast<float>(bits >> 8 & 255) +
                      static_cast<float>(bits >> 16 & 255) + static_cast<float>(bits >> 24);
    data[i] = __float2bfloat16_rn((sum / 127.5F - 4.0F) * 0.866F * scale);
  }
}

}  // namespace

cudaError_t read_all(const void* data, std::size_t bytes, unsigned* sink, cudaStream_t stream) {
  int device = 0;
  int sms = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device);
  read_kernel<<<static_cast<unsigned>(sms * 4), kThreads, 0, stream>>>(
      static_cast<const uint4*>(data), bytes / sizeof(uint4), sink);
  return cudaGetLastError();
}

cudaError_t fill_bf16(void* data, std::size_t count, float scale, unsigned seed,
                      cudaStream_t stream) {
  fill_kernel<<<2048, 256, 0, stream>>>(static_cast<__nv_bfloat16*>(data), count, scale, seed);
  return cudaGetLastError();
}

}  // namespace facet::kernels
