// Inputs of one step, packed: written on the host, copied to the device at once, read there at the
// same offsets.
#pragma once

#include <cstdint>
#include <span>

#include "common/base/check.h"
#include "worker/model/cuda/pinned.h"

namespace facet {

template <class T>
struct StepArray {
  std::span<T> host;
  T* device = nullptr;
};

class StepBlock {
 public:
  // Both have `bytes`.
  StepBlock(std::byte* host, std::byte* device, std::uint64_t bytes)
      : host_(host), device_(device), bytes_(bytes) {}

  template <class T>
  StepArray<T> add(std::int64_t count) {
    const std::uint64_t at = used_;
    used_ += (static_cast<std::uint64_t>(count) * sizeof(T) + 15) / 16 * 16;
    FACET_CHECK(used_ <= bytes_);
    return {{reinterpret_cast<T*>(host_ + at), static_cast<std::size_t>(count)},
            reinterpret_cast<T*>(device_ + at)};
  }

  // All that was added, to the device.
  void send(cudaStream_t stream) const {
    if (used_ > 0)
      FACET_CUDA(cudaMemcpyAsync(device_, host_, used_, cudaMemcpyHostToDevice, stream));
  }

 private:
  std::byte* host_;
  std::byte* device_;
  std::uint64_t bytes_;
  std::uint64_t used_ = 0;
};

}  // namespace facet
