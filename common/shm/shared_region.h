// Shared memory without a name: created, fully allocated, unlinked, handed over by descriptor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "common/base/result.h"
#include "common/base/unique_fd.h"

namespace facet {

// One object, two descriptors. Whoever holds only `read_only` cannot map it writable, reopen it
// for writing, or resize it (the object's mode is 0400).
struct SharedMemory {
  UniqueFd read_write;
  UniqueFd read_only;
  std::uint64_t bytes = 0;
};

// `bytes` zeroed bytes that are really there: running out of memory shows here, not as SIGBUS
// later. POSIX shared memory, or a memfd where /dev/shm has no room. `label` is for
// /proc/PID/maps. Both descriptors are close-on-exec. kExhausted with the numbers, or kIo.
Result<SharedMemory> create_shared_memory(std::string_view label, std::uint64_t bytes);

enum class MapAccess { kReadOnly, kReadWrite };

// A mapping of a descriptor; unmapped by the destructor; the descriptor may be closed before.
class MappedRegion {
 public:
  // bytes = 0: from offset to the end of the object. offset must be a multiple of the OS page.
  // kInvalidArgument when the object is shorter than that, kIo when mmap fails.
  static Result<MappedRegion> map(int fd, MapAccess access, std::uint64_t offset = 0,
                                  std::uint64_t bytes = 0);
  MappedRegion(MappedRegion&&) noexcept;
  MappedRegion& operator=(MappedRegion&&) noexcept;
  ~MappedRegion();

  std::span<const std::byte> bytes() const;
  std::span<std::byte> writable_bytes();  // of a kReadWrite mapping

 private:
  struct Impl;
  explicit MappedRegion(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// [offset, offset + bytes) of a region, overflow-safe; kCorrupt when it does not lie within.
Result<std::span<const std::byte>> view_of(std::span<const std::byte> region, std::uint64_t offset,
                                           std::uint64_t bytes);

}  // namespace facet
