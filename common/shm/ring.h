// The image ring: one shared-memory object = header, slot table, payload pages of 64 KiB.
// The payload has two arenas: ingest (encoded bytes) and pixels (RGB8, rows of 3 * width bytes).
// There is one slot per page, named by the first page of its run, so slots never run out before
// pages do. The broker is the only writer of the table; workers map the object read-only.
//
//   object offset 0          RingHeader
//                 128        RingSlot[ingest_pages + pixel_pages]
//                 payload    ingest arena, then pixel arena (payload offset: a page multiple)
//
// A slot's offset counts from the start of the payload: offset = slot * kRingPageBytes.
// DecodeJob offsets count from the start of the object: RingWriter::object_offset().
// The table may hold garbage (a broken writer): attaching and reading return Errors, never crash.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "common/base/request_id.h"
#include "common/base/result.h"
#include "common/shm/page_allocator.h"

namespace facet {

inline constexpr std::uint64_t kRingPageBytes = 64 << 10;

enum class RingArena : std::uint8_t { kIngest, kPixel };
enum class SlotState : std::uint8_t { kFree = 0, kWriting = 1, kReady = 2, kRetired = 3 };

struct RingGeometry {
  std::uint32_t ingest_pages = 0;
  std::uint32_t pixel_pages = 0;
  // Bytes rounded down to whole pages, at least one page each.
  static RingGeometry from_bytes(std::uint64_t ingest_bytes, std::uint64_t pixel_bytes);
  std::uint32_t num_slots() const { return ingest_pages + pixel_pages; }
  bool operator==(const RingGeometry&) const = default;
};

// Offset of the payload in the object, and size of the whole object, both page multiples.
std::uint64_t ring_payload_offset(const RingGeometry& geometry);
std::uint64_t ring_object_bytes(const RingGeometry& geometry);

struct RingHeader {
  static constexpr std::uint64_t kMagic = 0x31474e4952544346;  // "FCTRING1"
  std::atomic<std::uint64_t> magic;                            // written last
  std::uint32_t version;
  std::uint32_t page_bytes;
  std::uint32_t ingest_pages;
  std::uint32_t pixel_pages;
  std::uint64_t payload_offset;
  std::uint64_t object_bytes;
};

struct alignas(64) RingSlot {
  std::atomic<std::uint64_t> state_gen;  // state << 56 | generation
  RequestId request;
  std::uint64_t offset;  // from the start of the payload
  std::uint64_t length;  // bytes in use
  std::uint32_t width;   // pixel arena only
  std::uint32_t height;
  std::uint64_t epoch;  // the broker's life that reserved it
};
static_assert(sizeof(RingSlot) == 64);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

constexpr std::uint64_t pack_state(SlotState state, std::uint64_t generation) {
  return (static_cast<std::uint64_t>(state) << 56) | (generation & ((1ull << 56) - 1));
}

// What a descriptor on the wire says about an image (protocol's ImageDescriptor, without hashes).
struct SlotRef {
  std::uint32_t slot = 0;
  std::uint64_t generation = 0;
  std::uint64_t offset = 0;
  std::uint32_t width = 0;
  std::uint32_t height = 0;
};

// Writes header and an all-FREE table into zeroed memory of ring_object_bytes(geometry).
// Called once by whoever creates the object, before any other process attaches.
Status format_ring(std::span<std::byte> object, const RingGeometry& geometry);

// Checks a header against the object's size; kCorrupt says what does not fit.
Result<RingGeometry> read_ring_header(std::span<const std::byte> object);

inline constexpr std::uint64_t kRingSlotTableOffset = 128;

// The worker's side. `object` must stay mapped; a read-only mapping is enough.
class RingReader {
 public:
  static Result<RingReader> attach(std::span<const std::byte> object);

  const RingGeometry& geometry() const { return geometry_; }
  // The 3 * width * height bytes of a READY slot. kStaleEpoch: another generation or state;
  // kCorrupt: the descriptor or the table is out of bounds.
  Result<std::span<const std::uint8_t>> pixels(const SlotRef& ref) const;
  // Re-read after the last access to the pixels: false = they may have been another request's.
  bool is_current(std::uint32_t slot, std::uint64_t generation) const;

 private:
  std::span<const std::byte> object_;
  RingGeometry geometry_;
  std::uint64_t payload_offset_ = 0;
  const RingSlot* slots_ = nullptr;
};

struct ArenaUse {
  std::uint32_t pages = 0, used = 0, high_mark = 0, largest_free_run = 0, slots = 0;
};

// The broker's side: sole allocator and sole writer of the table. One thread.
class RingWriter {
 public:
  // Attaches to a formatted object; every slot that is not FREE waits in `found` until adopt() or
  // free_unadopted() decides about it.
  static Result<RingWriter> attach(std::span<std::byte> object, std::uint64_t epoch);

  struct FoundSlot {
    std::uint32_t slot = 0;
    SlotState state = SlotState::kFree;
    std::uint64_t generation = 0;
    RequestId request;
    std::uint64_t length = 0;
  };
  const std::vector<FoundSlot>& found() const { return found_; }
  // Keeps a found READY slot of the ingest arena: kNotFound or kCorrupt when it is not as stated.
  Status adopt(std::uint32_t slot, std::uint64_t generation, const RequestId& request,
               std::uint64_t length);
  // Keeps a found slot of the pixel arena, READY or RETIRED, which a worker may still read.
  // kCorrupt: its run does not fit.
  Status adopt_pixels(std::uint32_t slot);
  // Frees everything found and not adopted. Precondition: no process can still read or write it.
  // Returns how many slots it freed.
  std::size_t free_unadopted();

  // FREE -> WRITING, generation + 1. kExhausted when no run of free pages is long enough.
  Result<std::uint32_t> reserve(RingArena arena, const RequestId& request, std::uint64_t length,
                                std::uint32_t width = 0, std::uint32_t height = 0);
  void publish(std::uint32_t slot);  // WRITING -> READY
  void retire(std::uint32_t slot);   // WRITING or READY -> RETIRED
  void free(std::uint32_t slot);     // any but FREE -> FREE, pages given back

  std::span<std::uint8_t> payload(std::uint32_t slot);  // `length` bytes
  SlotRef ref(std::uint32_t slot) const;
  SlotState state(std::uint32_t slot) const;
  std::uint64_t generation(std::uint32_t slot) const;
  std::uint64_t length(std::uint32_t slot) const;
  std::uint64_t object_offset(std::uint32_t slot) const;  // for DecodeJob
  const RingGeometry& geometry() const { return geometry_; }
  ArenaUse use(RingArena arena) const;
  static std::uint32_t pages_for(std::uint64_t bytes);  // at least 1

  // Allocators and table agree: free + leased = all, each leased run has its slot and no other.
  Status check_conservation() const;

 private:
  RingWriter(std::span<std::byte> object, const RingGeometry& geometry, std::uint64_t epoch);
  PageAllocator& pages_of(std::uint32_t slot);
  std::uint32_t page_in_arena(std::uint32_t slot) const;
  RingSlot& slot_at(std::uint32_t slot);
  const RingSlot& slot_at(std::uint32_t slot) const;

  std::span<std::byte> object_;
  RingGeometry geometry_;
  std::uint64_t epoch_ = 0;
  std::uint64_t payload_offset_ = 0;
  RingSlot* slots_ = nullptr;
  PageAllocator ingest_;
  PageAllocator pixel_;
  std::vector<FoundSlot> found_;
};

}  // namespace facet
