#include "worker/model/host_arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "worker/engine/memory_plan.h"
#include "worker/model/host_facts.h"

namespace facet {
namespace {

constexpr std::uint64_t kTouchedAtOnce = 64 << 20;  // between two ticks

}  // namespace

Result<HostArena> HostArena::reserve(std::uint64_t bytes, const ProgressTick& tick) {
  const std::uint64_t has = available_memory();
  if (bytes > has)
    return Error(Code::kExhausted,
                 "host memory: needs " + bytes_text(bytes) + ", has " + bytes_text(has));
  HostArena arena;
  void* base = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED)
    return Error(Code::kExhausted, "host memory: needs " + bytes_text(bytes) + ": " +
                                       std::string(std::strerror(errno)));
  arena.base_ = static_cast<std::byte*>(base);
  arena.size_ = bytes;
  ::madvise(base, bytes, MADV_HUGEPAGE);  // fewer misses in address translation, if it is granted
  for (std::uint64_t at = 0; at < bytes; at += kTouchedAtOnce) {
    std::memset(arena.base_ + at, 0, std::min(kTouchedAtOnce, bytes - at));
    tick(WorkerPhase::kLoad);
  }
  return arena;
}

HostArena::HostArena(HostArena&& other) noexcept {
  *this = std::move(other);
}

HostArena& HostArena::operator=(HostArena&& other) noexcept {
  std::swap(base_, other.base_);
  std::swap(size_, other.size_);
  std::swap(used_, other.used_);
  return *this;
}

HostArena::~HostArena() {
  if (base_ != nullptr) ::munmap(base_, size_);
}

void* HostArena::take_bytes(std::uint64_t bytes) {
  FACET_CHECK_MSG(bytes <= size_ - used_, "a piece that the memory plan did not count");
  void* piece = base_ + used_;
  used_ += bytes;
  return piece;
}

}  // namespace facet
