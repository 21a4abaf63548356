#include <algorithm>
#include <string>

#include "common/base/check.h"
#include "common/base/crash_point.h"
#include "common/shm/ring.h"

namespace facet {
namespace {

constexpr std::uint64_t kGenerationMask = (1ull << 56) - 1;

SlotState state_of(std::uint64_t word) {
  return static_cast<SlotState>(word >> 56);
}

std::string slot_name(std::uint32_t slot) {
  return "slot " + std::to_string(slot);
}

}  // namespace

RingWriter::RingWriter(std::span<std::byte> object, const RingGeometry& geometry,
                       std::uint64_t epoch)
    : object_(object),
      geometry_(geometry),
      epoch_(epoch),
      payload_offset_(ring_payload_offset(geometry)),
      slots_(reinterpret_cast<RingSlot*>(object.data() + kRingSlotTableOffset)),
      ingest_(geometry.ingest_pages),
      pixel_(geometry.pixel_pages) {}

Result<RingWriter> RingWriter::attach(std::span<std::byte> object, std::uint64_t epoch) {
  const RingGeometry geometry = FACET_TRY(read_ring_header(object));
  RingWriter writer(object, geometry, epoch);
  for (std::uint32_t i = 0; i < geometry.num_slots(); ++i) {
    const RingSlot& slot = writer.slots_[i];
    const std::uint64_t word = slot.state_gen.load(std::memory_order_acquire);
    if (state_of(word) == SlotState::kFree) continue;
    writer.found_.push_back({i, state_of(word), word & kGenerationMask, slot.request, slot.length});
  }
  return writer;
}

Status RingWriter::adopt(std::uint32_t slot, std::uint64_t generation, const RequestId& request,
                         std::uint64_t length) {
  const auto found = std::find_if(found_.begin(), found_.end(),
                                  [slot](const FoundSlot& f) { return f.slot == slot; });
  if (found == found_.end()) {
    return Error(Code::kNotFound, slot_name(slot) + " holds nothing, or is taken twice");
  }
  if (slot >= geometry_.ingest_pages || found->state != SlotState::kReady ||
      found->generation != generation || found->request != request || found->length != length ||
      length == 0 || slot_at(slot).offset != std::uint64_t{slot} * kRingPageBytes ||
      length > std::uint64_t{geometry_.ingest_pages} * kRingPageBytes ||
      !ingest_.adopt(slot, pages_for(length))) {
    return Error(Code::kCorrupt, slot_name(slot) + " is not what the record says");
  }
  found_.erase(found);
  return {};
}

Status RingWriter::adopt_pixels(std::uint32_t slot) {
  const auto found = std::find_if(found_.begin(), found_.end(),
                                  [slot](const FoundSlot& f) { return f.slot == slot; });
  if (found == found_.end()) {
    return Error(Code::kNotFound, slot_name(slot) + " holds nothing, or is taken twice");
  }
  const bool is_readable = found->state == SlotState::kReady || found->state == SlotState::kRetired;
  const std::uint64_t most = std::uint64_t{geometry_.pixel_pages} * kRingPageBytes;
  if (slot < geometry_.ingest_pages || !is_readable || found->length == 0 ||
      found->length > most || !pixel_.adopt(page_in_arena(slot), pages_for(found->length))) {
    return Error(Code::kCorrupt, slot_name(slot) + " is no run of pixels");
  }
  found_.erase(found);
  return {};
}

std::size_t RingWriter::free_unadopted() {
  for (const FoundSlot& f : found_) {
    slots_[f.slot].state_gen.store(pack_state(SlotState::kFree, f.generation),
                                   std::memory_order_release);
  }
  const std::size_t freed = found_.size();
  found_.clear();
  return freed;
}

Result<std::uint32_t> RingWriter::reserve(RingArena arena, const RequestId& request,
                                          std::uint64_t length, std::uint32_t width,
                                          std::uint32_t height) {
  FACET_CHECK_MSG(found_.empty(), "free_unadopted() comes before the first reserve()");
  FACET_CHECK(length > 0);
  PageAllocator& pages = arena == RingArena::kIngest ? ingest_ : pixel_;
  const std::uint32_t count = pages_for(length);
  const auto first = pages.allocate(count);
  if (!first) {
    return Error(Code::kExhausted, "the ring has no run of " + std::to_string(count) +
                                       " pages now; its largest has " +
                                       std::to_string(pages.largest_free_run()));
  }
  const std::uint32_t slot = *first + (arena == RingArena::kIngest ? 0 : geometry_.ingest_pages);
  RingSlot& header = slot_at(slot);
  const std::uint64_t word = header.state_gen.load(std::memory_order_relaxed);
  FACET_CHECK_MSG(state_of(word) == SlotState::kFree, "a free run's slot is not FREE");
  FACET_CRASH_POINT("ring.reserving");
  header.state_gen.store(pack_state(SlotState::kWriting, (word & kGenerationMask) + 1),
                         std::memory_order_release);
  FACET_CRASH_POINT("ring.reserved");
  header.request = request;
  header.offset = std::uint64_t{slot} * kRingPageBytes;
  header.length = length;
  header.width = width;
  header.height = height;
  header.epoch = epoch_;
  return slot;
}

void RingWriter::publish(std::uint32_t slot) {
  FACET_CHECK(state(slot) == SlotState::kWriting);
  FACET_CRASH_POINT("ring.publishing");
  slot_at(slot).state_gen.store(pack_state(SlotState::kReady, generation(slot)),
                                std::memory_order_release);
  FACET_CRASH_POINT("ring.published");
}

void RingWriter::retire(std::uint32_t slot) {
  FACET_CHECK(state(slot) == SlotState::kWriting || state(slot) == SlotState::kReady);
  slot_at(slot).state_gen.store(pack_state(SlotState::kRetired, generation(slot)),
                                std::memory_order_release);
  FACET_CRASH_POINT("ring.retired");
}

void RingWriter::free(std::uint32_t slot) {
  FACET_CHECK(state(slot) != SlotState::kFree);
  slot_at(slot).state_gen.store(pack_state(SlotState::kFree, generation(slot)),
                                std::memory_order_release);
  FACET_CRASH_POINT("ring.freed");
  pages_of(slot).release(page_in_arena(slot));
}

std::span<std::uint8_t> RingWriter::payload(std::uint32_t slot) {
  const RingSlot& header = slot_at(slot);
  return {reinterpret_cast<std::uint8_t*>(object_.data()) + object_offset(slot),
          static_cast<std::size_t>(header.length)};
}

SlotRef RingWriter::ref(std::uint32_t slot) const {
  const RingSlot& header = slot_at(slot);
  return {slot, generation(slot), header.offset, header.width, header.height};
}

SlotState RingWriter::state(std::uint32_t slot) const {
  return state_of(slot_at(slot).state_gen.load(std::memory_order_relaxed));
}

std::uint64_t RingWriter::generation(std::uint32_t slot) const {
  return slot_at(slot).state_gen.load(std::memory_order_relaxed) & kGenerationMask;
}

std::uint64_t RingWriter::length(std::uint32_t slot) const {
  return slot_at(slot).length;
}

std::uint64_t RingWriter::object_offset(std::uint32_t slot) const {
  return payload_offset_ + std::uint64_t{slot} * kRingPageBytes;
}

ArenaUse RingWriter::use(RingArena arena) const {
  const PageAllocator& pages = arena == RingArena::kIngest ? ingest_ : pixel_;
  return {pages.num_pages(), pages.used_pages(), pages.high_mark(), pages.largest_free_run(),
          pages.num_runs()};
}

std::uint32_t RingWriter::pages_for(std::uint64_t bytes) {
  const std::uint64_t pages = bytes / kRingPageBytes + (bytes % kRingPageBytes != 0 ? 1 : 0);
  return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(pages, 1, UINT32_MAX));
}

Status RingWriter::check_conservation() const {
  FACET_TRY_STATUS(ingest_.check_conservation());
  FACET_TRY_STATUS(pixel_.check_conservation());
  std::uint32_t taken[2] = {0, 0};
  for (std::uint32_t slot = 0; slot < geometry_.num_slots(); ++slot) {
    const bool in_ingest = slot < geometry_.ingest_pages;
    const std::uint32_t run = (in_ingest ? ingest_ : pixel_).run_length(page_in_arena(slot));
    const bool is_taken = state(slot) != SlotState::kFree;
    if (is_taken) ++taken[in_ingest ? 0 : 1];
    if (is_taken != (run > 0) || (is_taken && run != pages_for(length(slot)))) {
      return Error(Code::kInternal, "ring: " + slot_name(slot) + " has state " +
                                        std::to_string(static_cast<int>(state(slot))) +
                                        " and a run of " + std::to_string(run) + " pages");
    }
  }
  if (taken[0] != ingest_.num_runs() || taken[1] != pixel_.num_runs()) {
    return Error(Code::kInternal, "ring: leased runs without a slot");
  }
  return {};
}

PageAllocator& RingWriter::pages_of(std::uint32_t slot) {
  return slot < geometry_.ingest_pages ? ingest_ : pixel_;
}

std::uint32_t RingWriter::page_in_arena(std::uint32_t slot) const {
  return slot < geometry_.ingest_pages ? slot : slot - geometry_.ingest_pages;
}

RingSlot& RingWriter::slot_at(std::uint32_t slot) {
  FACET_CHECK(slot < geometry_.num_slots());
  return slots_[slot];
}

const RingSlot& RingWriter::slot_at(std::uint32_t slot) const {
  FACET_CHECK(slot < geometry_.num_slots());
  return slots_[slot];
}

}  // namespace facet
