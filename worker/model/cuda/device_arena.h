// A worker's device memory: one allocation at start, divided by name, never grown and never given
// back in parts. What does not fit is refused with what it needs and what is left.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace facet {

class DeviceArena {
 public:
  // Regions begin at multiples of this: whole cache lines, and every vector load is aligned.
  static constexpr std::uint64_t kAlignment = 256;

  // Throws CudaFailure when the device has less.
  explicit DeviceArena(std::uint64_t bytes);
  ~DeviceArena();
  DeviceArena(const DeviceArena&) = delete;
  DeviceArena& operator=(const DeviceArena&) = delete;

  // Uninitialized device memory for the arena's life. Throws CudaFailure when it does not fit: the
  // plan that sized the arena was wrong.
  void* take(const std::string& name, std::uint64_t bytes);

  static constexpr std::uint64_t padded(std::uint64_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
  }

 private:
  std::byte* base_ = nullptr;
  std::uint64_t size_ = 0;
  std::uint64_t used_ = 0;
};

}  // namespace facet
