#include "worker/model/cuda/device_arena.h"

#include "worker/model/cuda/cuda_error.h"

namespace facet {

DeviceArena::DeviceArena(std::uint64_t bytes) : size_(padded(bytes)) {
  void* base = nullptr;
  const cudaError_t code = cudaMalloc(&base, size_);
  if (code != cudaSuccess) {
    std::size_t free_bytes = 0;
    std::size_t total = 0;
    (void)cudaGetLastError();
    (void)cudaMemGetInfo(&free_bytes, &total);
    fail_cuda("device arena: needs " + std::to_string(size_) + " bytes, the GPU has " +
              std::to_string(free_bytes) + " free of " + std::to_string(total) + " (" +
              cudaGetErrorString(code) + ")");
  }
  base_ = static_cast<std::byte*>(base);
}

DeviceArena::~DeviceArena() {
  (void)cudaFree(base_);
}

void* DeviceArena::take(const std::string& name, std::uint64_t bytes) {
  const std::uint64_t needs = padded(bytes);
  if (needs > size_ - used_)
    fail_cuda("device arena: " + name + " needs " + std::to_string(needs) +
              " bytes, the arena has " + std::to_string(size_ - used_) + " left of " +
              std::to_string(size_));
  std::byte* region = base_ + used_;
  used_ += needs;
  return region;
}

}  // namespace facet
