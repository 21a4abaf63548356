#include "worker/service/image_gate.h"

#include <string>
#include <utility>

namespace facet {

ImageGate::ImageGate(MappedRegion region, RingReader reader)
    : ring_(std::make_shared<const Ring>(Ring{std::move(region), std::move(reader)})) {}

Result<ImageGate> ImageGate::map(int ring_fd) {
  MappedRegion region = FACET_TRY(MappedRegion::map(ring_fd, MapAccess::kReadOnly));
  RingReader reader = FACET_TRY(RingReader::attach(region.bytes()));
  return ImageGate(std::move(region), std::move(reader));
}

Result<std::vector<ImageView>> ImageGate::open(std::span<const ImageDescriptor> images) const {
  std::vector<ImageView> views;
  for (std::size_t i = 0; i < images.size(); ++i) {
    const ImageDescriptor& image = images[i];
    const SlotRef ref{.slot = image.slot, .generation = image.generation, .offset = image.offset,
                      .width = image.width, .height = image.height};
    auto pixels = ring_->reader.pixels(ref);
    if (!pixels) {
      return Error(Code::kCorrupt, "image " + std::to_string(i) + ": " + pixels.error().message);
    }
    views.push_back({.pixels = pixels->data(),
                     .width = image.width,
                     .height = image.height,
                     .content_hash_high = image.content_hash_high,
                     .content_hash_low = image.content_hash_low,
                     .is_current = [ring = ring_, slot = ref.slot, generation = ref.generation] {
                       return ring->reader.is_current(slot, generation);
                     }});
  }
  return views;
}

}  // namespace facet
