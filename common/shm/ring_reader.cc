#include <string>

#include "common/shm/ring.h"

namespace facet {

Result<RingReader> RingReader::attach(std::span<const std::byte> object) {
  const RingGeometry geometry = FACET_TRY(read_ring_header(object));
  RingReader reader;
  reader.object_ = object;
  reader.geometry_ = geometry;
  reader.payload_offset_ = ring_payload_offset(geometry);
  reader.slots_ = reinterpret_cast<const RingSlot*>(object.data() + kRingSlotTableOffset);
  return reader;
}

Result<std::span<const std::uint8_t>> RingReader::pixels(const SlotRef& ref) const {
  if (ref.slot < geometry_.ingest_pages || ref.slot >= geometry_.num_slots()) {
    return Error(Code::kCorrupt, "slot " + std::to_string(ref.slot) + " is not a pixel slot");
  }
  if (!is_current(ref.slot, ref.generation)) {
    return Error(Code::kStaleEpoch, "slot " + std::to_string(ref.slot) +
                                        " is not READY in generation " +
                                        std::to_string(ref.generation));
  }
  const RingSlot& slot = slots_[ref.slot];
  const std::uint64_t length = slot.length;  // read once: the table is not ours
  const std::uint64_t offset = std::uint64_t{ref.slot} * kRingPageBytes;
  const std::uint64_t room = std::uint64_t{geometry_.num_slots() - ref.slot} * kRingPageBytes;
  // 3 * 2^32 * 2^32 would overflow: sides beyond 2^24 are refused first.
  constexpr std::uint32_t kMostSide = 1u << 24;
  if (ref.offset != offset || slot.offset != offset || ref.width == 0 || ref.height == 0 ||
      ref.width > kMostSide || ref.height > kMostSide || slot.width != ref.width ||
      slot.height != ref.height) {
    return Error(Code::kCorrupt, "slot " + std::to_string(ref.slot) +
                                     ": descriptor and table differ in offset or size");
  }
  const std::uint64_t bytes = std::uint64_t{3} * ref.width * ref.height;
  if (length != bytes || bytes > room) {
    return Error(Code::kCorrupt, "slot " + std::to_string(ref.slot) + ": " + std::to_string(bytes) +
                                     " bytes of pixels, length " + std::to_string(length) +
                                     ", room " + std::to_string(room));
  }
  const auto* begin =
      reinterpret_cast<const std::uint8_t*>(object_.data()) + payload_offset_ + offset;
  return std::span<const std::uint8_t>(begin, static_cast<std::size_t>(bytes));
}

bool RingReader::is_current(std::uint32_t slot, std::uint64_t generation) const {
  if (slot >= geometry_.num_slots()) return false;
  // All reads of the pixels come before this re-read.
  std::atomic_thread_fence(std::memory_order_acquire);
  return slots_[slot].state_gen.load(std::memory_order_acquire) ==
         pack_state(SlotState::kReady, generation);
}

}  // namespace facet
