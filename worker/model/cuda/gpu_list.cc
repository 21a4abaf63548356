#include "worker/model/cuda/gpu_list.h"

#include <cuda_runtime_api.h>

#include <array>
#include <cstdio>

namespace facet {
namespace {

std::string uuid_text(const cudaUUID_t& uuid) {
  std::string text = "GPU-";
  for (std::size_t i = 0; i < sizeof uuid.bytes; ++i) {
    std::array<char, 3> digits{};
    std::snprintf(digits.data(), digits.size(), "%02x", static_cast<unsigned char>(uuid.bytes[i]));
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += digits.data();
  }
  return text;
}

}  // namespace

Result<std::vector<GpuInfo>> list_gpus() {
  int count = 0;
  const cudaError_t counted = cudaGetDeviceCount(&count);
  if (counted == cudaErrorNoDevice) return std::vector<GpuInfo>{};
  if (counted != cudaSuccess)
    return Error(Code::kUnsupported, std::string("CUDA: ") + cudaGetErrorString(counted));
  std::vector<GpuInfo> gpus;
  for (int index = 0; index < count; ++index) {
    cudaDeviceProp properties{};
    if (const cudaError_t code = cudaGetDeviceProperties(&properties, index); code != cudaSuccess)
      return Error(Code::kUnsupported,
                   "GPU " + std::to_string(index) + ": " + cudaGetErrorString(code));
    gpus.push_back({index, uuid_text(properties.uuid)});
  }
  return gpus;
}

Result<std::uint64_t> gpu_free_memory(int gpu) {
  std::size_t free_bytes = 0;
  std::size_t total = 0;
  cudaError_t code = cudaSetDevice(gpu);
  if (code == cudaSuccess) code = cudaMemGetInfo(&free_bytes, &total);
  if (code != cudaSuccess)
    return Error(Code::kUnsupported,
                 "GPU " + std::to_string(gpu) + ": " + cudaGetErrorString(code));
  return free_bytes;
}

}  // namespace facet
