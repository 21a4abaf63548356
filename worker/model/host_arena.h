// All host memory that a runner works in: one mapping, reserved and touched at start, cut up once
// and given back as a whole.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/base/check.h"
#include "common/base/result.h"
#include "worker/engine/engine.h"
#include "worker/engine/host_layout.h"

namespace facet {

class HostArena {
 public:
  // Zeroed and resident when this returns. kExhausted: needs and has. Ticks while it touches.
  static Result<HostArena> reserve(std::uint64_t bytes, const ProgressTick& tick);

  HostArena() = default;
  HostArena(HostArena&& other) noexcept;
  HostArena& operator=(HostArena&& other) noexcept;
  ~HostArena();

  // `count` values of T, which are 0. The plan counted every piece: one too many is an error of
  // the program.
  template <class T>
  T* take(std::int64_t count) {
    FACET_CHECK(count >= 0);
    return static_cast<T*>(take_bytes(piece_bytes(count, sizeof(T))));
  }

  std::uint64_t size() const { return size_; }
  std::uint64_t used() const { return used_; }

 private:
  void* take_bytes(std::uint64_t bytes);  // of a whole piece

  std::byte* base_ = nullptr;
  std::uint64_t size_ = 0;
  std::uint64_t used_ = 0;
};

}  // namespace facet
