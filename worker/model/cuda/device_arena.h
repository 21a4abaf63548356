// A worker's device memory: one allocation at start, divided by name, never grown and never given
// back in parts. What does not fit is refused with what it needs and what is left.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

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
  template <class T>
  T* take_array(const std::string& name, std::uint64_t count) {
    return static_cast<T*>(take(name, count * sizeof(T)));
  }

  struct Region {
    std::string name;
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;
  };
  const std::vector<Region>& regions() const { return regions_; }
  std::uint64_t size() const { return size_; }
  std::uint64_t used() const { return used_; }

  static constexpr std::uint64_t padded(std::uint64_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
  }

 private:
  std::byte* base_ = nullptr;
  std::uint64_t size_ = 0;
  std::uint64_t used_ = 0;
  std::vector<Region> regions_;
};

}  // namespace facet
