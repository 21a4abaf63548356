#include "common/client/upload.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "common/protocol/codec.h"
#include "common/protocol/limits.h"

namespace facet {
namespace {

// What fits into one chunk is there sooner than a descriptor with its answer and the request after
// it.
constexpr std::uint64_t kMinMemfdBytes = kMaxChunkBytes + 1;
// A memfd is filled in one go, while nothing else of the client moves.
constexpr std::uint64_t kMaxMemfdBytes = 64 << 20;

}  // namespace

Upload::Upload(const RequestId& id, std::vector<ImageSource> images)
    : id_(id), images_(std::move(images)) {}

void Upload::restart() {
  image_ = 0;
  offset_ = 0;
  total_ = 0;
  chunk_bytes_ = 0;
  file_.reset();
  buffer_.reset();
}

std::string Upload::name() const {
  const ImageSource& source = images_[image_];
  return source.bytes ? "image " + std::to_string(image_) : source.path;
}

Status Upload::open_image() {
  const ImageSource& source = images_[image_];
  if (source.bytes) {
    total_ = source.bytes->size();
  } else {
    // Not blocking: a fifo must not hang the whole client.
    file_.reset(::open(source.path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    struct stat info {};
    if (!file_ || ::fstat(file_.get(), &info) != 0) return errno_error(source.path, errno);
    if (!S_ISREG(info.st_mode)) return Error(Code::kInvalidArgument, name() + ": not a file");
    total_ = static_cast<std::uint64_t>(info.st_size);
  }
  if (total_ == 0) return Error(Code::kInvalidArgument, name() + ": is empty");
  if (total_ > kMaxImageBytes) {
    return Error(Code::kTooLarge, name() + ": " + std::to_string(total_) +
                                      " bytes exceed the limit of " +
                                      std::to_string(kMaxImageBytes));
  }
  return {};
}

Status Upload::read_chunk() {
  buffer_ = std::make_shared_for_overwrite<char[]>(chunk_bytes_);
  std::size_t have = 0;
  while (have < chunk_bytes_) {
    const ssize_t got = ::pread(file_.get(), buffer_.get() + have, chunk_bytes_ - have,
                                static_cast<off_t>(offset_ + have));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno_error(name(), errno);
    if (got == 0) return Error(Code::kIo, name() + ": became shorter while it was sent");
    have += static_cast<std::size_t>(got);
  }
  return {};
}

Result<std::optional<Upload::Chunk>> Upload::next() {
  if (image_ == images_.size()) return std::optional<Chunk>();
  if (total_ == 0) FACET_TRY_STATUS(open_image());
  const ImageSource& source = images_[image_];
  if (chunk_bytes_ == 0) {
    chunk_bytes_ = std::min<std::uint64_t>(kMaxChunkBytes, total_ - offset_);
    if (!source.bytes) FACET_TRY_STATUS(read_chunk());
  }
  Chunk chunk;
  chunk.map = encode_message(PutChunk{id_, static_cast<std::uint32_t>(image_), total_, offset_});
  if (source.bytes) {
    chunk.bytes = std::string_view(*source.bytes).substr(offset_, chunk_bytes_);
    chunk.owner = source.bytes;
  } else {
    chunk.bytes = {buffer_.get(), chunk_bytes_};
    chunk.owner = buffer_;
  }
  return std::optional<Chunk>(std::move(chunk));
}

bool Upload::prefers_descriptors() const {
  bool is_worth_it = false;
  for (const ImageSource& source : images_) {
    struct stat info {};
    if (!source.bytes && ::stat(source.path.c_str(), &info) != 0) return false;
    const std::uint64_t size =
        source.bytes ? source.bytes->size() : static_cast<std::uint64_t>(info.st_size);
    if (size > kMaxMemfdBytes) return false;
    is_worth_it = is_worth_it || size >= kMinMemfdBytes;
  }
  return is_worth_it;
}

// False: it cannot be filled.
Result<bool> Upload::fill(std::span<std::byte> room) {
  const ImageSource& source = images_[image_];
  if (source.bytes) {
    std::memcpy(room.data(), source.bytes->data(), total_);
    return true;
  }
  for (std::uint64_t have = 0; have < total_;) {
    const ssize_t got =
        ::pread(file_.get(), room.data() + have, total_ - have, static_cast<off_t>(have));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return false;  // reading chunks of it names the failure
    if (got == 0) return Error(Code::kIo, name() + ": became shorter while it was sent");
    have += static_cast<std::uint64_t>(got);
  }
  return true;
}

Result<std::optional<Upload::Memfd>> Upload::next_memfd(std::optional<ImageMemfd> spare) {
  if (total_ == 0) FACET_TRY_STATUS(open_image());
  if (spare && spare->room().size() < total_) spare.reset();
  if (!spare) spare = ImageMemfd::create(total_);
  if (!spare || !FACET_TRY(fill(spare->room()))) return std::optional<Memfd>();
  Memfd image{std::move(*spare), {id_, static_cast<std::uint32_t>(image_), total_}};
  offset_ = total_;
  advance();
  return std::optional<Memfd>(std::move(image));
}

void Upload::advance() {
  offset_ += chunk_bytes_;
  chunk_bytes_ = 0;
  if (offset_ < total_) return;
  ++image_;
  offset_ = 0;
  total_ = 0;
  file_.reset();
  buffer_.reset();
}

}  // namespace facet
