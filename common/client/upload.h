// The images of one request on their way out, a chunk at a time.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/base/unique_fd.h"
#include "common/client/client.h"

namespace facet {

class Upload {
 public:
  Upload(const RequestId& id, std::vector<ImageSource> images);

  std::size_t num_images() const { return images_.size(); }
  void restart();

  struct Chunk {
    std::string map;         // frame 0
    std::string_view bytes;  // frame 1; valid until the next call
  };
  // The next chunk, the same one until advance(); nothing when all is sent. kNotFound, kIo,
  // kInvalidArgument (empty), kTooLarge: the image cannot be sent; the message names it.
  Result<std::optional<Chunk>> next();
  void advance();

 private:
  Status open_image();
  Status read_chunk();
  std::string name() const;

  RequestId id_;
  std::vector<ImageSource> images_;
  std::size_t image_ = 0;
  std::uint64_t offset_ = 0;
  std::uint64_t total_ = 0;  // of the current image; 0 = not opened
  UniqueFd file_;
  std::string buffer_;  // the current chunk, when it comes from a file
  std::size_t chunk_bytes_ = 0;
};

}  // namespace facet
