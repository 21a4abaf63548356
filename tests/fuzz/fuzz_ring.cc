// An image ring that nobody vouches for: a broker that used it, then damage in header and table.
// Readers get pixels of the one slot they ask for or an error; a new broker's allocator and table
// agree whatever it found.
#include <cstring>
#include <map>

#include "common/base/check.h"
#include "common/shm/ring.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/unit/shm/aligned_memory.h"

namespace facet::fuzz {
namespace {

constexpr RingGeometry kGeometry{4, 6};
constexpr std::size_t kTableEnd = kRingSlotTableOffset + 10 * sizeof(RingSlot);
constexpr std::string_view kRefusals[] = {"ring:", "slot "};

RequestId id_of(std::uint8_t number) {
  RequestId id;
  id.bytes.fill(number);
  return id;
}

void use_ring(RingWriter& writer, std::vector<std::uint32_t>& held, Dice& dice) {
  const std::uint8_t what = dice.byte() % 4;
  if (what == 0 || held.empty()) {
    const bool is_ingest = dice.byte() % 2 == 0;
    const std::uint32_t width = 1 + dice.byte();
    const std::uint32_t height = 1 + dice.byte();
    const std::uint64_t bytes = is_ingest ? width * height * 2 : 3 * width * height;
    const auto slot = writer.reserve(is_ingest ? RingArena::kIngest : RingArena::kPixel,
                                     id_of(dice.byte()), bytes, width, height);
    if (slot) held.push_back(*slot);
    return;
  }
  const std::size_t at = dice.byte() % held.size();
  const std::uint32_t slot = held[at];
  const SlotState state = writer.state(slot);
  if (what == 1 && state == SlotState::kWriting) writer.publish(slot);
  if (what == 2 && state != SlotState::kRetired) writer.retire(slot);
  if (what == 3) {
    writer.free(slot);
    held.erase(held.begin() + static_cast<std::ptrdiff_t>(at));
  }
}

void damage(std::span<std::byte> object, Dice& dice) {
  const std::uint8_t what = dice.byte();
  const std::size_t at = dice.word() % (kTableEnd / 4) * 4;
  const std::uint32_t value = what >= 128 ? dice.word() : dice.byte();
  // A state needs the topmost byte of its word alone.
  if (what % 2 == 0) {
    object[at] = static_cast<std::byte>(value);
  } else {
    std::memcpy(object.data() + at, &value, sizeof value);
  }
}

void check_pixels(const RingReader& reader, std::span<const std::byte> object, const SlotRef& ref) {
  const auto pixels = reader.pixels(ref);
  if (!pixels) return check_refusal(pixels.error(), 200, kRefusals);
  const auto& geometry = reader.geometry();
  FACET_CHECK(ref.slot >= geometry.ingest_pages && ref.slot < geometry.num_slots());
  FACET_CHECK(pixels->size() == std::uint64_t{3} * ref.width * ref.height && !pixels->empty());
  const auto* payload = reinterpret_cast<const std::uint8_t*>(object.data()) +
                        ring_payload_offset(geometry) + ref.slot * kRingPageBytes;
  FACET_CHECK_MSG(pixels->data() == payload, "pixels of another slot");
  FACET_CHECK(payload + pixels->size() <=
              reinterpret_cast<const std::uint8_t*>(object.data()) + object.size());
  FACET_CHECK(reader.is_current(ref.slot, ref.generation));
  FACET_CHECK(!reader.is_current(ref.slot, ref.generation + 1));
}

void read_all(std::span<const std::byte> object, Dice& dice) {
  const auto reader = RingReader::attach(object);
  FACET_CHECK_MSG(reader, "a header that a writer takes and a reader refuses");
  const auto* slots = reinterpret_cast<const RingSlot*>(object.data() + kRingSlotTableOffset);
  for (std::uint32_t i = 0; i < reader->geometry().num_slots() + 1; ++i) {
    SlotRef ref{i, 1, i * kRingPageBytes, 1, 1};
    if (i < reader->geometry().num_slots()) {
      const std::uint64_t word = slots[i].state_gen.load();
      ref = {i, word & ((1ull << 56) - 1), slots[i].offset, slots[i].width, slots[i].height};
    }
    check_pixels(*reader, object, ref);
    const std::uint8_t what = dice.byte();
    if (what & 1) ref.width = dice.byte();
    if (what & 2) ref.height = dice.byte();
    if (what & 4) ref.offset = dice.word();
    if (what & 8) ref.generation += dice.byte();
    if (what & 16) ref.slot = dice.byte();
    check_pixels(*reader, object, ref);
  }
}

void take_over(std::span<std::byte> object, Dice& dice) {
  auto writer = RingWriter::attach(object, 9);
  FACET_CHECK(writer);
  const auto found = writer->found();
  std::vector<std::uint32_t> held;
  std::size_t adopted = 0;
  for (const RingWriter::FoundSlot& slot : found) {
    const auto status = writer->adopt(slot.slot, slot.generation, slot.request, slot.length);
    if (!status) {
      check_refusal(status.error(), 200, kRefusals);
      continue;
    }
    ++adopted;
    held.push_back(slot.slot);
    FACET_CHECK(slot.state == SlotState::kReady && slot.slot < kGeometry.ingest_pages);
    FACET_CHECK_MSG(!writer->adopt(slot.slot, slot.generation, slot.request, slot.length),
                    "one slot taken twice");
  }
  FACET_CHECK(writer->free_unadopted() + adopted == found.size());
  FACET_CHECK_MSG(writer->check_conservation(), "after taking over");
  for (int i = 0; i < 12; ++i) use_ring(*writer, held, dice);
  FACET_CHECK_MSG(writer->check_conservation(), "after working on");
  for (const std::uint32_t slot : held) writer->free(slot);
  FACET_CHECK(writer->use(RingArena::kIngest).used == 0);
  FACET_CHECK(writer->use(RingArena::kPixel).used == 0);
  FACET_CHECK_MSG(writer->check_conservation(), "after freeing all");
}

}  // namespace

// Read from the end: how many steps, the steps, how many damages, the damages, the rest.
std::vector<std::string> seeds() {
  std::string steps;
  for (int i = 0; i < 30; ++i) {
    steps += std::string("\x03\x20\x30\x01\x00\x05\x01\x00", 8) + static_cast<char>(i);
  }
  return {steps + '\x1f', std::string(40, '\xff') + steps + '\x04', steps + steps + '\x18',
          std::string(1, '\0')};
}

void run_one(std::string_view input) {
  static AlignedMemory memory(ring_object_bytes(kGeometry));
  const std::span<std::byte> object = memory.span();
  std::memset(object.data(), 0, kTableEnd);
  FACET_CHECK(format_ring(object, kGeometry));
  Dice dice(input);
  std::vector<std::uint32_t> held;
  {
    auto writer = RingWriter::attach(object, 8);
    FACET_CHECK(writer);
    for (int steps = dice.byte() % 32; steps > 0; --steps) use_ring(*writer, held, dice);
    FACET_CHECK_MSG(writer->check_conservation(), "after use");
  }
  const int damages = dice.byte() % 16;
  for (int i = 0; i < damages; ++i) damage(object, dice);
  const auto geometry = read_ring_header(object);
  FACET_CHECK_MSG(geometry || damages > 0, "a whole ring is refused");
  if (!geometry) return check_refusal(geometry.error(), 200, kRefusals);
  FACET_CHECK_MSG(ring_object_bytes(*geometry) <= object.size(), "a ring larger than its object");
  if (*geometry != kGeometry) return;  // a smaller ring: its table would be another one
  read_all(object, dice);
  take_over(object, dice);
}

}  // namespace facet::fuzz
