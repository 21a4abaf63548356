#include "common/shm/ring.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/unit/shm/aligned_memory.h"

namespace facet {
namespace {

constexpr RingGeometry kGeometry{8, 16};

RequestId id_of(std::uint8_t number) {
  RequestId id;
  id.bytes[0] = number;
  return id;
}

class Ring : public testing::Test {
 protected:
  Ring() : memory(ring_object_bytes(kGeometry)) {
    EXPECT_TRUE(format_ring(memory.span(), kGeometry).has_value());
  }
  RingWriter writer(std::uint64_t epoch = 1) {
    return std::move(RingWriter::attach(memory.span(), epoch).value());
  }
  RingReader reader() { return RingReader::attach(memory.span()).value(); }
  RingSlot& slot(std::uint32_t index) {
    return reinterpret_cast<RingSlot*>(memory.span().data() + kRingSlotTableOffset)[index];
  }
  AlignedMemory memory;
};

TEST_F(Ring, AReaderSeesPixelsFromPublicationToRetirement) {
  RingWriter ring = writer();
  const auto slot = ring.reserve(RingArena::kPixel, id_of(1), 3 * 200 * 150, 200, 150);
  ASSERT_TRUE(slot.has_value());
  const RingReader worker = reader();
  EXPECT_FALSE(worker.pixels(ring.ref(*slot)).has_value());  // WRITING
  ring.payload(*slot)[89'999] = 42;
  ring.publish(*slot);
  const auto pixels = worker.pixels(ring.ref(*slot));
  ASSERT_TRUE(pixels.has_value()) << pixels.error().message;
  EXPECT_EQ(pixels->size(), 90'000u);
  EXPECT_EQ((*pixels)[89'999], 42);
  EXPECT_TRUE(worker.is_current(*slot, ring.generation(*slot)));
  ring.retire(*slot);
  EXPECT_FALSE(worker.is_current(*slot, ring.generation(*slot)));
  ring.free(*slot);
  EXPECT_TRUE(ring.check_conservation().has_value());
}

TEST_F(Ring, AReusedSlotHasAnotherGeneration) {
  RingWriter ring = writer();
  const auto first = ring.reserve(RingArena::kPixel, id_of(1), 16 * kRingPageBytes, 1024, 341);
  ASSERT_TRUE(first.has_value());
  ring.publish(*first);
  const SlotRef old = ring.ref(*first);
  ring.free(*first);
  const auto second = ring.reserve(RingArena::kPixel, id_of(2), 16 * kRingPageBytes, 1024, 341);
  ASSERT_EQ(*second, *first);
  ring.publish(*second);
  EXPECT_EQ(ring.generation(*second), old.generation + 1);
  const auto stale = reader().pixels(old);
  ASSERT_FALSE(stale.has_value());
  EXPECT_EQ(stale.error().code, Code::kStaleEpoch);
}

TEST_F(Ring, FullArenasRefuseWithTheNumbersAndDoNotTouchEachOther) {
  RingWriter ring = writer();
  ASSERT_TRUE(ring.reserve(RingArena::kIngest, id_of(1), 8 * kRingPageBytes).has_value());
  const auto refused = ring.reserve(RingArena::kIngest, id_of(2), 1);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::kExhausted);
  EXPECT_TRUE(ring.reserve(RingArena::kPixel, id_of(2), 1, 1, 1).has_value());
  EXPECT_EQ(ring.use(RingArena::kIngest).used, 8u);
  EXPECT_EQ(ring.use(RingArena::kPixel).used, 1u);
}

TEST_F(Ring, ANewBrokerAdoptsWhatItsRecordsNameAndFreesTheRest) {
  std::uint32_t kept = 0;
  std::uint64_t generation = 0;
  {
    RingWriter old = writer();
    ASSERT_TRUE(old.reserve(RingArena::kIngest, id_of(9), 10).has_value());  // left in WRITING
    kept = *old.reserve(RingArena::kIngest, id_of(1), 100'000);
    old.publish(kept);
    generation = old.generation(kept);
    const auto pixels = old.reserve(RingArena::kPixel, id_of(1), 1000, 20, 10);
    old.publish(*pixels);
    old.retire(*pixels);
  }
  RingWriter ring = writer(2);
  EXPECT_EQ(ring.found().size(), 3u);
  EXPECT_FALSE(ring.adopt(kept, generation + 1, id_of(1), 100'000).has_value());
  EXPECT_FALSE(ring.adopt(kept, generation, id_of(2), 100'000).has_value());
  EXPECT_FALSE(ring.adopt(kept, generation, id_of(1), 99'999).has_value());
  EXPECT_FALSE(ring.adopt(3000, generation, id_of(1), 100'000).has_value());
  EXPECT_TRUE(ring.adopt(kept, generation, id_of(1), 100'000).has_value());
  EXPECT_FALSE(ring.adopt(kept, generation, id_of(1), 100'000).has_value());  // twice
  EXPECT_EQ(ring.free_unadopted(), 2u);
  EXPECT_TRUE(ring.check_conservation().has_value()) << ring.check_conservation().error().message;
  EXPECT_EQ(ring.use(RingArena::kIngest).used, 2u);
  EXPECT_EQ(ring.use(RingArena::kPixel).used, 0u);
}

TEST_F(Ring, DescriptorsThatLieAreRefused) {
  RingWriter ring = writer();
  const auto slot = *ring.reserve(RingArena::kPixel, id_of(1), 3 * 10 * 10, 10, 10);
  ring.publish(slot);
  const SlotRef good = ring.ref(slot);
  const RingReader worker = reader();
  const auto refuses = [&](auto change) {
    SlotRef ref = good;
    change(ref);
    return !worker.pixels(ref).has_value();
  };
  EXPECT_TRUE(refuses([](SlotRef& r) { r.slot = 0; }));   // ingest arena
  EXPECT_TRUE(refuses([](SlotRef& r) { r.slot = 24; }));  // beyond
  EXPECT_TRUE(refuses([](SlotRef& r) { r.slot = UINT32_MAX; }));
  EXPECT_TRUE(refuses([](SlotRef& r) { r.generation += 1; }));
  EXPECT_TRUE(refuses([](SlotRef& r) { r.offset += kRingPageBytes; }));
  EXPECT_TRUE(refuses([](SlotRef& r) {
    r.width = UINT32_MAX;
    r.height = UINT32_MAX;
  }));
  EXPECT_TRUE(refuses([](SlotRef& r) { r.height = 0; }));
  EXPECT_TRUE(worker.pixels(good).has_value());
  // A table that promises more than the object holds.
  RingSlot& bad = this->slot(slot);
  bad.length = 3ull * 4096 * 4096;
  bad.width = bad.height = 4096;
  SlotRef big = good;
  big.width = big.height = 4096;
  EXPECT_FALSE(worker.pixels(big).has_value());
}

TEST_F(Ring, GarbageIsAnErrorNeverACrash) {
  std::mt19937_64 rng(11);
  for (int round = 0; round < 400; ++round) {
    AlignedMemory copy(memory.span().size());
    std::memcpy(copy.span().data(), memory.span().data(), memory.span().size());
    const bool spoil_header = round % 2 == 0;
    const std::size_t low = spoil_header ? 0 : kRingSlotTableOffset;
    const std::size_t size = spoil_header ? sizeof(RingHeader) : 24 * sizeof(RingSlot);
    for (int i = 0; i < 1 + round % 64; ++i) {
      copy.span()[low + rng() % size] = static_cast<std::byte>(rng());
    }
    auto ring = RingWriter::attach(copy.span(), 2);
    if (!ring) continue;
    for (const auto& found : std::vector(ring->found())) {
      (void)ring->adopt(found.slot, found.generation, found.request, found.length);
    }
    ring->free_unadopted();
    EXPECT_TRUE(ring->check_conservation().has_value());
    const auto worker = RingReader::attach(copy.span());
    ASSERT_TRUE(worker.has_value());
    for (std::uint32_t i = 0; i < 30; ++i) (void)worker->pixels({i, rng(), rng(), 9, 9});
  }
}

TEST_F(Ring, TooSmallOrUnformattedObjectsAreRefused) {
  AlignedMemory blank(ring_object_bytes(kGeometry));
  EXPECT_FALSE(RingReader::attach(blank.span()).has_value());
  EXPECT_FALSE(RingWriter::attach(blank.span().first(10), 1).has_value());
  EXPECT_FALSE(format_ring(blank.span().first(1000), kGeometry).has_value());
  EXPECT_FALSE(RingReader::attach(memory.span().first(memory.span().size() - 1)).has_value());
}

TEST_F(Ring, TransitionsOutOfOrderAreDefects) {
  RingWriter ring = writer();
  const auto slot = *ring.reserve(RingArena::kPixel, id_of(1), 30, 1, 10);
  ring.publish(slot);
  EXPECT_DEATH(ring.publish(slot), "check failed");
  ring.free(slot);
  EXPECT_DEATH(ring.free(slot), "check failed");
  EXPECT_DEATH(ring.retire(slot), "check failed");
}

}  // namespace
}  // namespace facet
