// Cuts a region into arrays, in the order in which their sizes were added up.
#pragma once

#include <cstdint>

#include "worker/model/cuda/device_arena.h"

namespace facet {

class Cutter {
 public:
  // Over nullptr it only adds up.
  explicit Cutter(void* base) : base_(static_cast<std::byte*>(base)) {}
  template <class T = void>
  T* take(std::int64_t bytes) {
    std::byte* at = base_ == nullptr ? nullptr : base_ + used_;
    used_ += DeviceArena::padded(static_cast<std::uint64_t>(bytes));
    return reinterpret_cast<T*>(at);
  }
  std::uint64_t used() const { return used_; }

 private:
  std::byte* base_;
  std::uint64_t used_ = 0;
};

// A part whose constructor cuts itself out of a region: Part(Cutter&, args...).
template <class Part, class... Args>
Part cut(void* region, const Args&... args) {
  Cutter cutter(region);
  return Part(cutter, args...);
}

// What such a part takes.
template <class Part, class... Args>
std::uint64_t cut_bytes(const Args&... args) {
  Cutter nothing(nullptr);
  const Part part(nothing, args...);
  return nothing.used();
}

}  // namespace facet
