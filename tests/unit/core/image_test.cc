#include "tests/unit/core/core_fixture.h"

namespace facet {
namespace {

using Image = CoreFixture;

// 64 pixel pages, at most 16 a request: 590 x 590 pixels take 16.
constexpr int kQuarter = 590;

TEST_F(Image, ARequestIsDispatchedWhenAllItsImagesAreDecoded) {
  worker_up(0, 1);
  step(DecoderUp{});
  ask_with_images(1, 2);
  ASSERT_EQ(jobs.size(), 2u);
  EXPECT_EQ(jobs[0].pixels_bytes, 30'000u);
  EXPECT_TRUE(dispatches.empty());
  decode_all();
  ASSERT_EQ(dispatches.size(), 1u);
  const DispatchOrder& dispatch = dispatches[0].dispatch;
  ASSERT_EQ(dispatch.images.size(), 2u);
  const RingReader reader = RingReader::attach(ring_memory.span()).value();
  const ImageDescriptor& d = dispatch.images[1];
  EXPECT_TRUE(reader.pixels({d.slot, d.generation, d.offset, d.width, d.height}).has_value());
}

TEST_F(Image, TheOldestWaiterIsNotOvertakenByAYoungerThatWouldFit) {
  worker_up(0, 1, 16);
  worker_up(1, 2, 16);
  step(DecoderUp{});
  for (std::uint8_t i = 1; i <= 3; ++i) ask_with_images(i, 1, kQuarter);
  ask_with_images(4, 1, 100);       // 1 page: 49 of 64 taken
  ask_with_images(5, 1, kQuarter);  // does not fit
  ask_with_images(6, 1, 100);       // would
  decode_all();
  EXPECT_EQ(dispatches.size(), 4u);
  EXPECT_EQ(ring->use(RingArena::kPixel).slots, 4u);
  worker_says(0, 1, ending(1, 1, 0));
  worker_says(1, 2, ending(1, 1, 0));  // whichever had it
  decode_all();
  EXPECT_EQ(dispatches.size(), 6u);
  EXPECT_EQ(dispatches[4].dispatch.id, id(5));
}

TEST_F(Image, ABadImageEndsTheRequestByItsIndex) {
  worker_up(0, 1);
  step(DecoderUp{});
  ask_with_images(1, 1);
  decode_all(DecodeOutcome::kBadImage);
  ASSERT_EQ(told<Done>().size(), 1u);
  EXPECT_EQ(told<Done>()[0].code, Code::kInvalidArgument);
  EXPECT_NE(told<Done>()[0].error.find("image 0"), std::string::npos);
  EXPECT_EQ(ring->use(RingArena::kPixel).used + ring->use(RingArena::kIngest).used, 0u);
}

TEST_F(Image, AChildsFaultIsForgivenOnceAnOutsideKillAlways) {
  worker_up(0, 1);
  step(DecoderUp{});
  ask_with_images(1, 1);
  for (int i = 0; i < 10; ++i) {
    DecodeReply killed;
    killed.job = jobs.back().job;
    killed.outcome = DecodeOutcome::kChildKilled;
    step(DecoderReply{killed});
  }
  EXPECT_EQ(jobs.size(), 11u);
  EXPECT_TRUE(told<Done>().empty());
  for (int i = 0; i < 2; ++i) {
    DecodeReply fault;
    fault.job = jobs.back().job;
    fault.outcome = DecodeOutcome::kChildFault;
    step(DecoderReply{fault});
    EXPECT_EQ(told<Done>().size(), static_cast<std::size_t>(i));
  }
}

TEST_F(Image, SlotsOfADecodeJobAreNotReusedBeforeItsAnswerOrReaping) {
  worker_up(0, 1);
  step(DecoderUp{});
  ask_with_images(1, 1, kQuarter);
  step(ClientCancel{1, id(1)});
  EXPECT_EQ(told<Done>().size(), 1u);
  EXPECT_GT(ring->use(RingArena::kPixel).used, 0u);
  EXPECT_GT(ring->use(RingArena::kIngest).used, 0u);
  EXPECT_FALSE(core->is_idle());
  step(DecoderReaped{});
  EXPECT_EQ(ring->use(RingArena::kPixel).used + ring->use(RingArena::kIngest).used, 0u);
  EXPECT_TRUE(core->is_idle());
}

TEST_F(Image, AReapedDecodersJobsRunAgainAndItsLateAnswersCountNothing) {
  worker_up(0, 1);
  step(DecoderUp{});
  ask_with_images(1, 2);
  const auto old_jobs = jobs;
  jobs.clear();
  step(DecoderReaped{});
  EXPECT_TRUE(jobs.empty());
  step(DecoderUp{});
  ASSERT_EQ(jobs.size(), 2u);
  EXPECT_EQ(jobs[0].pixels_offset, old_jobs[0].pixels_offset);
  DecodeReply late;
  late.job = old_jobs[0].job;
  step(DecoderReply{late});
  EXPECT_TRUE(dispatches.empty());
  decode_all();
  EXPECT_EQ(dispatches.size(), 1u);
}

TEST_F(Image, ReleasedPixelsAreDecodedAgainForTheNextAttempt) {
  worker_up(0, 1);
  step(DecoderUp{});
  ask_with_images(1, 1);
  decode_all();
  SequenceUpdate first = update(1, 1, 0, {5});
  first.images_released = true;
  worker_says(0, 1, first);
  EXPECT_EQ(ring->use(RingArena::kPixel).used, 0u);
  EXPECT_EQ(ring->use(RingArena::kIngest).slots, 1u);
  step(WorkerDead{0, 1, false, -9});
  ASSERT_EQ(jobs.size(), 1u);
  worker_up(1, 2);
  decode_all();
  ASSERT_EQ(dispatches.size(), 2u);
  EXPECT_EQ(dispatches[1].dispatch.attempt, 2u);
  EXPECT_EQ(dispatches[1].dispatch.committed, std::vector<std::int32_t>{5});
}

TEST_F(Image, ADecoderThatDoesNotAnswerIsEndedOnceAndItsJobsRunAgain) {
  worker_up(0, 1);
  step(DecoderUp{});
  ask_with_images(1, 2);
  ASSERT_EQ(jobs.size(), 2u);
  EXPECT_LE(core->next_deadline().value_or(INT64_MAX), now + limits.decode_deadline);
  tick(limits.decode_deadline - 1);
  EXPECT_EQ(decoder_kills, 0);
  tick(1);
  tick(kSecond);
  EXPECT_EQ(decoder_kills, 1);
  jobs.clear();
  step(DecoderReaped{});
  step(DecoderUp{});
  decode_all();
  EXPECT_EQ(dispatches.size(), 1u);
  tick(limits.decode_deadline);
  EXPECT_EQ(decoder_kills, 1);
}

}  // namespace
}  // namespace facet
