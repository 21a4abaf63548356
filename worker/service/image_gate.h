// The gate between descriptors on the wire and pixels: nothing a message says is believed before
// it was compared with the ring's own table.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "common/base/result.h"
#include "common/protocol/messages.h"
#include "common/shm/ring.h"
#include "common/shm/shared_region.h"
#include "worker/engine/engine.h"

namespace facet {

class ImageGate {
 public:
  // Maps the ring behind `ring_fd` read-only for as long as the gate lives; the engine's views
  // point into it.
  static Result<ImageGate> map(int ring_fd);

  // Views of all images of a dispatch, in order. An Error names the image: kCorrupt when its
  // descriptor is out of bounds, or its slot is another generation's or not ready.
  Result<std::vector<ImageView>> open(std::span<const ImageDescriptor> images) const;

 private:
  ImageGate(MappedRegion region, RingReader reader);

  // On the heap: ImageView::is_current refers to it wherever the gate is moved to.
  struct Ring {
    MappedRegion region;
    RingReader reader;
  };
  std::shared_ptr<const Ring> ring_;
};

}  // namespace facet
