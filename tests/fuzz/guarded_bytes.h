// Memory that ends where a page does that nobody may touch: a codec of the distribution, built
// without a sanitizer, dies as it steps over the end. What lies in front is compared afterwards.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "common/base/check.h"

namespace facet::fuzz {

class GuardedBytes {
 public:
  explicit GuardedBytes(std::size_t capacity)
      : room_((capacity + kPage - 1) / kPage * kPage + kPage) {
    void* mapped =
        mmap(nullptr, room_ + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    FACET_CHECK(mapped != MAP_FAILED);
    begin_ = static_cast<std::uint8_t*>(mapped);
    FACET_CHECK(mprotect(begin_ + room_, kPage, PROT_NONE) == 0);
    std::memset(begin_, kMark, room_);
  }
  GuardedBytes(const GuardedBytes&) = delete;
  GuardedBytes& operator=(const GuardedBytes&) = delete;
  ~GuardedBytes() { munmap(begin_, room_ + kPage); }

  // The last `bytes` (at most the capacity), filled with `fill`; kMargin bytes in front are marked.
  std::span<std::uint8_t> take(std::size_t bytes, std::uint8_t fill) {
    FACET_CHECK(bytes + kMargin <= room_);
    std::uint8_t* run = begin_ + room_ - bytes;
    std::memset(run - kMargin, kMark, kMargin);
    std::memset(run, fill, bytes);
    return {run, bytes};
  }

  // The last bytes, with these in them.
  std::span<std::uint8_t> copy_of(std::string_view bytes) {
    const auto run = take(bytes.size(), 0);
    if (!bytes.empty()) std::memcpy(run.data(), bytes.data(), bytes.size());
    return run;
  }

  static void check_margin(std::span<const std::uint8_t> run) {
    const std::uint8_t* begin = run.data() - kMargin;
    FACET_CHECK_MSG(std::all_of(begin, run.data(), [](std::uint8_t b) { return b == kMark; }),
                    "written in front of the run");
  }

 private:
  static constexpr std::size_t kPage = 4096;
  static constexpr std::size_t kMargin = 1024;
  static constexpr std::uint8_t kMark = 0xa5;

  std::size_t room_;
  std::uint8_t* begin_ = nullptr;
};

}  // namespace facet::fuzz
