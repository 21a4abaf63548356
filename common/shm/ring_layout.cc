#include <algorithm>
#include <new>
#include <string>

#include "common/shm/ring.h"

namespace facet {
namespace {

std::uint64_t round_up(std::uint64_t bytes) {
  return (bytes + kRingPageBytes - 1) / kRingPageBytes * kRingPageBytes;
}

}  // namespace

RingGeometry RingGeometry::from_bytes(std::uint64_t ingest_bytes, std::uint64_t pixel_bytes) {
  RingGeometry geometry;
  // 2^31 pages of 64 KiB are 128 TiB: slot numbers of both arenas together stay within 32 bits.
  static constexpr std::uint64_t kMost = (1ull << 31) - 1;
  const auto pages = [](std::uint64_t bytes) {
    return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(bytes / kRingPageBytes, 1, kMost));
  };
  geometry.ingest_pages = pages(ingest_bytes);
  geometry.pixel_pages = pages(pixel_bytes);
  return geometry;
}

std::uint64_t ring_payload_offset(const RingGeometry& geometry) {
  return round_up(kRingSlotTableOffset + std::uint64_t{geometry.num_slots()} * sizeof(RingSlot));
}

std::uint64_t ring_object_bytes(const RingGeometry& geometry) {
  return ring_payload_offset(geometry) + std::uint64_t{geometry.num_slots()} * kRingPageBytes;
}

Status format_ring(std::span<std::byte> object, const RingGeometry& geometry) {
  if (geometry.ingest_pages == 0 || geometry.pixel_pages == 0 ||
      object.size() < ring_object_bytes(geometry)) {
    return Error(Code::kInvalidArgument,
                 "the ring needs " + std::to_string(ring_object_bytes(geometry)) +
                     " bytes, the object has " + std::to_string(object.size()));
  }
  static_assert(sizeof(RingHeader) <= kRingSlotTableOffset);
  auto* slots = reinterpret_cast<RingSlot*>(object.data() + kRingSlotTableOffset);
  for (std::uint32_t i = 0; i < geometry.num_slots(); ++i) new (&slots[i]) RingSlot{};
  auto* header = new (object.data()) RingHeader{};
  header->version = 1;
  header->page_bytes = kRingPageBytes;
  header->ingest_pages = geometry.ingest_pages;
  header->pixel_pages = geometry.pixel_pages;
  header->payload_offset = ring_payload_offset(geometry);
  header->object_bytes = ring_object_bytes(geometry);
  header->magic.store(RingHeader::kMagic, std::memory_order_release);
  return {};
}

Result<RingGeometry> read_ring_header(std::span<const std::byte> object) {
  if (object.size() < kRingSlotTableOffset) return Error(Code::kCorrupt, "ring: object too small");
  if (reinterpret_cast<std::uintptr_t>(object.data()) % alignof(RingSlot) != 0) {
    return Error(Code::kInvalidArgument, "ring: the mapping is not aligned");
  }
  const auto* header = reinterpret_cast<const RingHeader*>(object.data());
  if (header->magic.load(std::memory_order_acquire) != RingHeader::kMagic) {
    return Error(Code::kCorrupt, "ring: no magic number; not formatted, or not a ring");
  }
  RingGeometry geometry;
  geometry.ingest_pages = header->ingest_pages;
  geometry.pixel_pages = header->pixel_pages;
  if (header->version != 1 || header->page_bytes != kRingPageBytes) {
    return Error(Code::kCorrupt, "ring: version " + std::to_string(header->version) + ", page of " +
                                     std::to_string(header->page_bytes) + " bytes");
  }
  constexpr std::uint32_t kMost = (1u << 31) - 1;
  if (geometry.ingest_pages == 0 || geometry.ingest_pages > kMost || geometry.pixel_pages == 0 ||
      geometry.pixel_pages > kMost || header->payload_offset != ring_payload_offset(geometry) ||
      header->object_bytes != ring_object_bytes(geometry) ||
      object.size() < ring_object_bytes(geometry)) {
    return Error(Code::kCorrupt, "ring: the header's numbers do not fit together");
  }
  return geometry;
}

}  // namespace facet
