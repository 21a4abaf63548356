#include "tests/unit/core/core_fixture.h"

namespace facet {
namespace {

using Upload = CoreFixture;

TEST_F(Upload, ChunksInOrderBecomeAnImage) {
  const std::string image = fake_image(30, 20, 3000);
  for (std::size_t at = 0; at < image.size(); at += 1000) {
    step(ClientPut{1, {id(1), 0, image.size(), at}, std::string_view(image).substr(at, 1000)});
  }
  generate(request(1, 1));
  EXPECT_EQ(told<Accepted>().size(), 1u);
  EXPECT_EQ(ring->use(RingArena::kIngest).slots, 1u);
}

TEST_F(Upload, AChunkOutOfOrderRefusesTheTryOnceAndTheGenerateAgain) {
  const std::string image = fake_image(30, 20, 3000);
  step(ClientPut{1, {id(1), 0, 3000, 0}, std::string_view(image).substr(0, 1000)});
  step(ClientPut{1, {id(1), 0, 3000, 2000}, std::string_view(image).substr(2000)});
  step(ClientPut{1, {id(1), 1, 3000, 0}, std::string_view(image).substr(0, 1000)});
  EXPECT_EQ(told<Refused>().size(), 1u);
  EXPECT_EQ(ring->use(RingArena::kIngest).used, 0u);
  generate(request(1, 2));
  EXPECT_EQ(told<Refused>().size(), 2u);
  put(1, 0, image);  // begins again: a new try
  put(1, 1, image);
  generate(request(1, 2));
  EXPECT_EQ(told<Accepted>().size(), 1u);
}

TEST_F(Upload, AFullRingRefusesWithAHint) {
  limits.max_ingest_bytes_per_client = 1ull << 30;
  start();
  forget();
  for (std::uint8_t i = 1; i <= 5; ++i) {
    const std::uint64_t total = 16 * kRingPageBytes;
    const std::string chunk = fake_image(9, 9, 1000);
    step(ClientPut{1, {id(i), 0, total, 0}, chunk});
  }
  ASSERT_EQ(told<Refused>().size(), 1u);
  EXPECT_EQ(told<Refused>()[0].code, Code::kExhausted);
  EXPECT_GT(told<Refused>()[0].retry_after_ms, 0u);
  EXPECT_EQ(ring->use(RingArena::kIngest).used, 64u);
}

TEST_F(Upload, MoreThanAQuarterOfAnArenaIsTooLargeWithNumbers) {
  const std::string chunk = fake_image(9, 9, 100);
  step(ClientPut{1, {id(1), 0, 16 * kRingPageBytes + 1, 0}, chunk});
  ASSERT_EQ(told<Refused>().size(), 1u);
  EXPECT_EQ(told<Refused>()[0].code, Code::kTooLarge);
  EXPECT_NE(told<Refused>()[0].message.find(std::to_string(16 * kRingPageBytes)),
            std::string::npos);
  put(2, 0, fake_image(700, 700));  // 1.47 MB of pixels; a quarter is 1 MiB
  generate(request(2, 1));
  EXPECT_EQ(told<Refused>().at(1).code, Code::kTooLarge);
}

TEST_F(Upload, BytesOfOneClientAreBounded) {
  limits.max_ingest_bytes_per_client = 1000;
  start();
  put(1, 0, fake_image(9, 9, 900));
  put(2, 0, fake_image(9, 9, 200));
  ASSERT_EQ(told<Refused>().size(), 1u);
  EXPECT_EQ(told<Refused>()[0].code, Code::kExhausted);
  put(3, 0, fake_image(9, 9, 200), 2);
  EXPECT_TRUE(told<Refused>(2).empty());
}

TEST_F(Upload, NothingFollowingFor30SecondsForgetsIt) {
  tick(limits.restart_grace);
  put(1, 0, fake_image(9, 9));
  tick(limits.upload_ttl);
  EXPECT_EQ(ring->use(RingArena::kIngest).used, 0u);
  EXPECT_TRUE(core->is_idle());
  generate(request(1, 1));
  EXPECT_EQ(told<Refused>().at(0).code, Code::kInvalidArgument);
}

TEST_F(Upload, WhileTheBrokerDidNotRunNobodyWasSilent) {
  tick(limits.restart_grace);
  const std::string image = fake_image(9, 9, 98);
  const std::string_view half = std::string_view(image).substr(0, 49);
  step(ClientPut{1, {id(1), 0, 98, 0}, half});
  put(2, 0, image);
  now += 600 * kSecond;
  step(Paused{600 * kSecond});
  step(ClientPut{1, {id(1), 0, 98, 49}, std::string_view(image).substr(49)});
  generate(request(1, 1));
  EXPECT_EQ(told<Accepted>().size(), 1u);
  tick(limits.upload_ttl - kSecond);
  EXPECT_EQ(core->status().uploads, 1u);
  tick(kSecond);
  EXPECT_EQ(core->status().uploads, 0u);
  EXPECT_TRUE(core->check_conservation());
}

TEST_F(Upload, WhatIsNoImageIsRefusedByItsIndex) {
  put(1, 0, fake_image(9, 9));
  put(1, 1, "bad");
  ASSERT_EQ(told<Refused>().size(), 1u);
  EXPECT_NE(told<Refused>()[0].message.find("image 1"), std::string::npos);
  put(2, 0, fake_image(20000, 9));
  EXPECT_EQ(told<Refused>().at(1).code, Code::kTooLarge);
}

TEST_F(Upload, AfterARestartMissingImagesAreTheServersFault) {
  put(1, 0, fake_image(9, 9));
  start();
  generate(request(1, 1));
  ASSERT_EQ(told<Refused>().size(), 1u);
  EXPECT_EQ(told<Refused>()[0].code, Code::kClosed);
  EXPECT_GT(told<Refused>()[0].retry_after_ms, 0u);
}

TEST_F(Upload, AMalformedChunkRefusesTheTryOnceAndTheGenerateWithTheSame) {
  const std::string image = fake_image(9, 9, 98);
  const std::string_view half = std::string_view(image).substr(0, 49);
  const Error beyond(Code::kInvalidArgument, "offset: 49 and a chunk of 51 bytes exceed 98");
  step(ClientPut{1, {id(1), 0, 98, 0}, half});
  step(ClientPut{1, {id(1), 0, 0, 49}, {}, beyond});
  EXPECT_EQ(ring->use(RingArena::kIngest).used, 0u);
  step(ClientPut{1, {id(1), 0, 98, 49}, half});
  step(ClientPut{1, {id(1), 0, 0, 98}, {}, beyond});
  ASSERT_EQ(told<Refused>().size(), 1u);
  generate(request(1, 1));
  ASSERT_EQ(told<Refused>().size(), 2u);
  for (const Refused& refused : told<Refused>()) {
    EXPECT_EQ(refused.id, id(1));
    EXPECT_EQ(refused.message, beyond.message);
    EXPECT_EQ(refused.retry_after_ms, 0u);
  }
  EXPECT_EQ(core->num_unfinished(), 0u);
  put(1, 0, image);
  generate(request(1, 1));
  EXPECT_EQ(told<Accepted>().size(), 1u);
}

TEST_F(Upload, MalformedFromItsFirstChunkIsOneRefusalAndTheGenerateOne) {
  const Error large(Code::kTooLarge, "put: a chunk of 1048577 bytes exceeds 1048576");
  for (std::uint64_t i = 0; i < 3; ++i) {
    step(ClientPut{1, {id(1), 0, 0, i * 1048577}, {}, large});
  }
  step(ClientPut{1, {id(1), UINT32_MAX, 0, UINT64_MAX}, {}, large});  // neither could be read
  EXPECT_EQ(told<Refused>().size(), 1u);
  GenerateRequest wrong = request(1, 1);
  wrong.sampling.max_tokens = 1 << 20;  // is told of its upload first
  generate(wrong);
  ASSERT_EQ(told<Refused>().size(), 2u);
  EXPECT_EQ(told<Refused>()[1].code, Code::kTooLarge);
  EXPECT_EQ(told<Refused>()[1].message, large.message);
}

TEST_F(Upload, AMalformedGenerateKeepsNothingOfItsUploadAndHarmsNoAcceptedRequest) {
  const Error error(Code::kInvalidArgument, "params.top_p: 2 is not between 0 and 1");
  GenerateRequest only_id;
  only_id.id = id(1);
  put(1, 0, fake_image(9, 9));
  step(ClientGenerate{1, only_id, {}, error});
  EXPECT_EQ(ring->use(RingArena::kIngest).used, 0u);
  generate(request(1, 1));
  ASSERT_EQ(told<Refused>().size(), 2u);
  EXPECT_EQ(told<Refused>()[1].message, error.message);
  ask_with_images(2, 1);
  only_id.id = id(2);
  step(ClientPut{1, {id(2), 0, 0, 0}, {}, error});
  EXPECT_EQ(told<Refused>().size(), 2u);
  step(ClientGenerate{1, only_id, {}, error});
  EXPECT_EQ(told<Refused>().size(), 3u);
  EXPECT_EQ(core->num_unfinished(), 1u);
}

TEST_F(Upload, AnImageByDescriptorIsAnsweredOnceWithItsLastPiece) {
  const std::string image = fake_image(30, 20, 3000);
  for (std::size_t at = 0; at < image.size(); at += 1000) {
    EXPECT_TRUE(told<Stored>(7).empty());
    step(ClientPut{7, {id(1), 0, image.size(), at}, std::string_view(image).substr(at, 1000), {},
                   3, true});
  }
  ASSERT_EQ(told<Stored>(7).size(), 1u);
  EXPECT_EQ(told<Stored>(7)[0].id, id(1));
  hand_over(1, 1, image);
  EXPECT_EQ(told<Stored>(7)[1].image, 1u);
  step(ClientGone{7});  // it need not stay
  generate(request(1, 2));
  EXPECT_EQ(told<Accepted>().size(), 1u);
  EXPECT_EQ(ring->use(RingArena::kIngest).slots, 2u);
  hand_over(1, 0, image);  // accepted already: nothing is kept, and the client may go on
  EXPECT_EQ(told<Stored>(7).size(), 3u);
  EXPECT_EQ(ring->use(RingArena::kIngest).slots, 2u);
}

TEST_F(Upload, EveryDescriptorOfARefusedTryIsAnswered) {
  hand_over(1, 0, "bad");
  hand_over(1, 1, fake_image(9, 9));  // of the same try, was under way
  ASSERT_EQ(told<Refused>(7).size(), 2u);
  EXPECT_EQ(told<Refused>(7)[1].message, told<Refused>(7)[0].message);
  hand_over(1, 0, fake_image(9, 9));  // begins again
  hand_over(1, 1, fake_image(9, 9));
  EXPECT_EQ(told<Stored>(7).size(), 2u);
  const Error error(Code::kInvalidArgument, "not a memfd");
  step(ClientPut{7, {id(1), 0, 0, 0}, {}, error, 3, true});
  EXPECT_EQ(told<Refused>(7).at(2).message, error.message);
  EXPECT_EQ(ring->use(RingArena::kIngest).used, 0u);
  generate(request(1, 2));
  EXPECT_EQ(told<Refused>().at(0).message, error.message);
}

TEST_F(Upload, AnImageWhoseUploadGoesMeanwhileIsAnswered) {
  const std::string image = fake_image(9, 9, 2000);
  const std::string_view half = std::string_view(image).substr(0, 1000);
  step(ClientPut{7, {id(1), 0, 2000, 0}, half, {}, 3, true});
  step(ClientCancel{1, id(1)});  // by whoever knows the id
  step(ClientPut{7, {id(1), 0, 2000, 1000}, half, {}, 3, true});
  EXPECT_EQ(told<Refused>(7).size(), 1u);
  step(ClientPut{7, {id(2), 0, 2000, 0}, half, {}, 3, true});
  generate(request(2, 1));  // too early: refused, and with it the upload
  step(ClientPut{7, {id(2), 0, 2000, 1000}, half, {}, 3, true});
  EXPECT_EQ(told<Refused>(7).size(), 2u);
  EXPECT_EQ(ring->use(RingArena::kIngest).used, 0u);
}

TEST_F(Upload, BothWaysMixAndCountAgainstWhoAsks) {
  limits.max_ingest_bytes_per_client = 1000;
  start();
  put(1, 0, fake_image(9, 9, 300));
  hand_over(1, 1, fake_image(9, 9, 300));
  generate(request(1, 2));
  EXPECT_EQ(told<Accepted>().size(), 1u);
  hand_over(2, 0, fake_image(9, 9, 600));  // by itself within the limit
  EXPECT_EQ(told<Stored>(7).size(), 2u);
  generate(request(2, 1));
  ASSERT_EQ(told<Refused>().size(), 1u);
  EXPECT_EQ(told<Refused>()[0].code, Code::kExhausted);
  EXPECT_GT(told<Refused>()[0].retry_after_ms, 0u);
  hand_over(3, 0, fake_image(9, 9, 300));
  generate(request(3, 1));
  EXPECT_EQ(told<Accepted>().size(), 2u);
}

TEST_F(Upload, GarbageChunksAreRefused) {
  const std::string chunk(100, 'x');
  for (const PutChunk& bad :
       {PutChunk{id(1), 99, 100, 0}, PutChunk{id(2), 0, 50, 0}, PutChunk{id(3), 0, 1ull << 60, 0},
        PutChunk{id(4), 0, 200, UINT64_MAX - 10}}) {
    forget();
    step(ClientPut{1, bad, chunk});
    EXPECT_EQ(told<Refused>().size(), 1u);
  }
  EXPECT_EQ(ring->use(RingArena::kIngest).used, 0u);
}

}  // namespace
}  // namespace facet
