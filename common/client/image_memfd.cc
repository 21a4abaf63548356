#include "common/client/image_memfd.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <utility>

namespace facet {
namespace {

constexpr std::uint64_t kGranularity = 1 << 20;  // so that the next image of about the size fits

}  // namespace

void ImageMemfd::Unmap::operator()(std::byte* memory) const {
  ::munmap(memory, bytes);
}

ImageMemfd::ImageMemfd(UniqueFd fd, std::byte* memory, std::size_t bytes)
    : fd_(std::move(fd)), memory_(memory, Unmap{bytes}) {}

std::optional<ImageMemfd> ImageMemfd::create(std::uint64_t bytes) {
  const std::uint64_t size = (bytes + kGranularity - 1) / kGranularity * kGranularity;
  UniqueFd fd(::memfd_create("facet-image", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd || ::posix_fallocate(fd.get(), 0, static_cast<off_t>(size)) != 0) return std::nullopt;
  void* const memory =
      ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd.get(), 0);
  if (memory == MAP_FAILED) return std::nullopt;
  ImageMemfd image(std::move(fd), static_cast<std::byte*>(memory), size);
  // The second seal comes after the mapping, which it leaves writable.
  if (::fcntl(image.fd(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE) != 0)
    return std::nullopt;
  return image;
}

}  // namespace facet
