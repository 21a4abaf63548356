// Device memory for what libtorch allocates inside its operators (outputs and statistics of
// attention): a region of the worker's arena behind libtorch's pluggable allocator. Nothing else of
// this process allocates through libtorch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <unordered_map>

namespace facet {

// First fit over one region, neighbours joined when they are given back. All uses are on one
// stream, so a block may serve again as soon as its tensor is gone on the host: what reads the old
// content is ahead in the stream. No CUDA call is made here, so it is tested on any machine.
class FirstFit {
 public:
  static constexpr std::uint64_t kAlignment = 512;  // what libtorch's own allocator gives

  FirstFit(std::byte* base, std::uint64_t bytes);
  // nullptr when no gap is large enough.
  void* allocate(std::uint64_t bytes);
  void release(void* block);

  std::uint64_t in_use() const { return in_use_; }
  std::uint64_t most_in_use() const { return most_in_use_; }
  std::uint64_t size() const { return size_; }
  std::uint64_t largest_gap() const;

 private:
  std::byte* base_;
  std::uint64_t size_;
  std::uint64_t in_use_ = 0;
  std::uint64_t most_in_use_ = 0;
  std::map<std::uint64_t, std::uint64_t> gaps_;            // offset -> bytes
  std::unordered_map<std::uint64_t, std::uint64_t> held_;  // offset -> bytes
};

// Makes libtorch allocate device memory from [base, base + bytes): the first time before libtorch
// touches a GPU; again when the model before is gone. A request that does not fit throws
// c10::OutOfMemoryError with the numbers; it never reaches the driver.
void install_torch_arena(void* base, std::uint64_t bytes);

}  // namespace facet
