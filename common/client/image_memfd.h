// Memory that a client fills with an image and hands over: a memfd that only this mapping writes,
// and that neither shrinks nor gets holes, so that the broker may read it where it lies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "common/base/unique_fd.h"

namespace facet {

class ImageMemfd {
 public:
  // Room for `bytes`, or a little more. Nothing: there is no memory or descriptor for it.
  static std::optional<ImageMemfd> create(std::uint64_t bytes);

  int fd() const { return fd_.get(); }
  // All of it. What the broker has not answered it may be reading.
  std::span<std::byte> room() { return {memory_.get(), memory_.get_deleter().bytes}; }

 private:
  struct Unmap {
    std::size_t bytes = 0;
    void operator()(std::byte* memory) const;
  };
  ImageMemfd(UniqueFd fd, std::byte* memory, std::size_t bytes);

  UniqueFd fd_;
  std::unique_ptr<std::byte, Unmap> memory_;
};

}  // namespace facet
