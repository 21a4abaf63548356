// The images of one request on their way out, a chunk at a time.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/unique_fd.h"
#include "common/client/client.h"
#include "common/client/image_memfd.h"
#include "common/protocol/put_fd.h"

namespace facet {

class Upload {
 public:
  Upload(const RequestId& id, std::vector<ImageSource> images);

  std::size_t num_images() const { return images_.size(); }
  void restart();

  struct Chunk {
    std::string map;                    // frame 0
    std::string_view bytes;             // frame 1
    std::shared_ptr<const void> owner;  // keeps them
  };
  // The next chunk, the same one until advance(); nothing when all is sent. kNotFound, kIo,
  // kInvalidArgument (empty), kTooLarge: the image cannot be sent; the message names it.
  Result<std::optional<Chunk>> next();
  void advance();

  // Instead of chunks: worth it for images of this size, and not too much at once.
  bool prefers_descriptors() const;
  // All of the next image in a memfd, and what is said about it; then the one after it is next.
  // `spare`: of an earlier image, to be written again, which saves the kernel the taking of memory;
  // may be none. A file is read straight into it.
  // Nothing: memory or descriptors are short, or the file system cannot do it; chunks may do.
  // Errors as of next().
  struct Memfd {
    ImageMemfd memory;
    PutFd put;
  };
  Result<std::optional<Memfd>> next_memfd(std::optional<ImageMemfd> spare = {});
  bool is_at_end() const { return image_ == images_.size(); }

 private:
  Result<bool> fill(std::span<std::byte> room);
  Status open_image();
  Status read_chunk();
  std::string name() const;

  RequestId id_;
  std::vector<ImageSource> images_;
  std::size_t image_ = 0;
  std::uint64_t offset_ = 0;
  std::uint64_t total_ = 0;  // of the current image; 0 = not opened
  UniqueFd file_;
  std::shared_ptr<char[]> buffer_;  // the current chunk, when it comes from a file
  std::size_t chunk_bytes_ = 0;
};

}  // namespace facet
