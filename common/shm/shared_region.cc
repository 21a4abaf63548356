// The one adapter to Boost.Interprocess: its exceptions end here.
#include "common/shm/shared_region.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/interprocess/mapped_region.hpp>
#include <boost/interprocess/shared_memory_object.hpp>
#include <cerrno>
#include <fstream>
#include <optional>
#include <string>
#include <utility>

#include "common/base/request_id.h"

namespace facet {
namespace {

namespace bip = boost::interprocess;

// What mapped_region wants to see of a thing that can be mapped.
struct MappableFd {
  int fd;
  bip::mapping_handle_t get_mapping_handle() const {
    bip::mapping_handle_t handle{};
    handle.handle = fd;
    handle.is_xsi = false;
    return handle;
  }
};

// MemAvailable of /proc/meminfo, in bytes: what can be taken without pushing others out.
std::optional<std::uint64_t> available_memory() {
  std::ifstream meminfo("/proc/meminfo");
  std::string key;
  std::uint64_t kilobytes = 0;
  std::string unit;
  while (meminfo >> key >> kilobytes) {
    if (key == "MemAvailable:") return kilobytes * 1024;
    std::getline(meminfo, unit);
  }
  return std::nullopt;
}

// Takes the memory now. A memfd knows no limit of its own: asking for more than there is would not
// fail but set the kernel's OOM killer on everybody, so it is refused first.
Status fill(int fd, std::uint64_t bytes) {
  const auto available = available_memory();
  if (available && bytes > *available) {
    return Error(Code::kExhausted, "no room for " + std::to_string(bytes) +
                                       " bytes of shared memory: " + std::to_string(*available) +
                                       " are available");
  }
  int error = 0;
  do {
    error = posix_fallocate(fd, 0, static_cast<off_t>(bytes));
  } while (error == EINTR);
  if (error == ENOSPC || error == ENOMEM || error == EFBIG) {
    return Error(Code::kExhausted,
                 "no room for " + std::to_string(bytes) + " bytes of shared memory");
  }
  if (error != 0) return errno_error("posix_fallocate of shared memory", error);
  return {};
}

// Seals the mode once both descriptors are open: nobody can reopen the object for writing.
Result<SharedMemory> finish(UniqueFd read_write, UniqueFd read_only, std::uint64_t bytes) {
  if (fchmod(read_write.get(), 0400) != 0) return errno_error("fchmod of shared memory", errno);
  SharedMemory memory;
  memory.read_write = std::move(read_write);
  memory.read_only = std::move(read_only);
  memory.bytes = bytes;
  return memory;
}

Result<UniqueFd> duplicate(int fd) {
  UniqueFd copy(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!copy) return errno_error("duplicate a descriptor of shared memory", errno);
  return copy;
}

Result<SharedMemory> create_posix(std::string_view label, std::uint64_t bytes) {
  const std::string name = "/facet-" + std::string(label) + "-" + RequestId::random().hex();
  try {
    bip::shared_memory_object object(bip::create_only, name.c_str(), bip::read_write,
                                     bip::permissions(0600));
    bip::shared_memory_object reader;
    {
      struct Remover {  // the name is gone before anything slow begins, whatever happens next
        const std::string& name;
        ~Remover() { bip::shared_memory_object::remove(name.c_str()); }
      } remover{name};
      bip::shared_memory_object(bip::open_only, name.c_str(), bip::read_only).swap(reader);
    }
    FACET_TRY_STATUS(fill(object.get_mapping_handle().handle, bytes));
    UniqueFd read_write = FACET_TRY(duplicate(object.get_mapping_handle().handle));
    UniqueFd read_only = FACET_TRY(duplicate(reader.get_mapping_handle().handle));
    return finish(std::move(read_write), std::move(read_only), bytes);
  } catch (const bip::interprocess_exception& error) {
    return Error(Code::kIo, std::string("create shared memory: ") + error.what());
  }
}

Result<SharedMemory> create_memfd(std::string_view label, std::uint64_t bytes) {
  const std::string name = "facet-" + std::string(label);
  UniqueFd read_write(memfd_create(name.c_str(), MFD_CLOEXEC));
  if (!read_write) return errno_error("memfd_create", errno);
  FACET_TRY_STATUS(fill(read_write.get(), bytes));
  const std::string path = "/proc/self/fd/" + std::to_string(read_write.get());
  UniqueFd read_only(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!read_only) return errno_error("open " + path, errno);
  return finish(std::move(read_write), std::move(read_only), bytes);
}

}  // namespace

Result<SharedMemory> create_shared_memory(std::string_view label, std::uint64_t bytes) {
  if (bytes == 0) return Error(Code::kInvalidArgument, "shared memory of 0 bytes");
  auto memory = create_posix(label, bytes);
  if (memory) return memory;
  auto fallback = create_memfd(label, bytes);
  if (!fallback) fallback.error().message += " (/dev/shm: " + memory.error().message + ")";
  return fallback;
}

struct MappedRegion::Impl {
  bip::mapped_region region;
  bool writable = false;
};

MappedRegion::MappedRegion(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
MappedRegion::MappedRegion(MappedRegion&&) noexcept = default;
MappedRegion& MappedRegion::operator=(MappedRegion&&) noexcept = default;
MappedRegion::~MappedRegion() = default;

Result<MappedRegion> MappedRegion::map(int fd, MapAccess access, std::uint64_t offset,
                                       std::uint64_t bytes) {
  struct stat status {};
  if (fstat(fd, &status) != 0) return errno_error("fstat of shared memory", errno);
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (offset > size || bytes > size - offset || size == offset) {
    return Error(Code::kInvalidArgument, "cannot map " + std::to_string(bytes) + " bytes at " +
                                             std::to_string(offset) + ": the object has " +
                                             std::to_string(size));
  }
  if (bytes == 0) bytes = size - offset;
  try {
    const auto mode = access == MapAccess::kReadWrite ? bip::read_write : bip::read_only;
    auto impl = std::make_unique<Impl>();
    impl->region = bip::mapped_region(MappableFd{fd}, mode, static_cast<bip::offset_t>(offset),
                                      static_cast<std::size_t>(bytes));
    impl->writable = access == MapAccess::kReadWrite;
    return MappedRegion(std::move(impl));
  } catch (const bip::interprocess_exception& error) {
    return Error(Code::kIo, std::string("map shared memory: ") + error.what());
  }
}

std::span<const std::byte> MappedRegion::bytes() const {
  return {static_cast<const std::byte*>(impl_->region.get_address()), impl_->region.get_size()};
}

std::span<std::byte> MappedRegion::writable_bytes() {
  if (!impl_->writable) return {};
  return {static_cast<std::byte*>(impl_->region.get_address()), impl_->region.get_size()};
}

Result<std::span<const std::byte>> view_of(std::span<const std::byte> region, std::uint64_t offset,
                                           std::uint64_t bytes) {
  if (offset > region.size() || bytes > region.size() - offset) {
    return Error(Code::kCorrupt, std::to_string(bytes) + " bytes at " + std::to_string(offset) +
                                     " are outside of " + std::to_string(region.size()));
  }
  return region.subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(bytes));
}

}  // namespace facet
