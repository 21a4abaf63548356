// Zeroed memory aligned like a mapping.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <span>

namespace facet {

class AlignedMemory {
 public:
  explicit AlignedMemory(std::size_t bytes)
      : bytes_(bytes),
        memory_(static_cast<std::byte*>(::operator new[](bytes, std::align_val_t{4096}))) {
    std::memset(memory_.get(), 0, bytes);
  }
  std::span<std::byte> span() { return {memory_.get(), bytes_}; }

 private:
  struct Free {
    void operator()(std::byte* memory) const {
      ::operator delete[](memory, std::align_val_t{4096});
    }
  };
  std::size_t bytes_;
  std::unique_ptr<std::byte[], Free> memory_;
};

}  // namespace facet
