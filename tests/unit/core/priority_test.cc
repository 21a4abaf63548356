// Interactive before batch, and what a client is told about its place in the queue.
#include "tests/unit/core/core_fixture.h"

namespace facet {
namespace {

class Priorities : public CoreFixture {
 protected:
  static GenerateRequest batch(std::uint8_t number, std::uint32_t images = 0) {
    GenerateRequest r = request(number, images);
    r.priority = Priority::kBatch;
    return r;
  }
  // The place told with the last Accepted.
  std::uint32_t place() {
    const auto accepted = told<Accepted>();
    return accepted.empty() ? UINT32_MAX : accepted.back().queue_position;
  }
  std::vector<RequestId> dispatched() const {
    std::vector<RequestId> ids;
    for (const SendDispatch& sent : dispatches) ids.push_back(sent.dispatch.id);
    return ids;
  }
};

TEST_F(Priorities, TheQueueIsInteractiveFirstAndOldestFirst) {
  for (std::uint8_t i = 1; i <= 3; ++i) generate(batch(i));
  for (std::uint8_t i = 4; i <= 6; ++i) generate(request(i));
  worker_up(0, 1, 6);
  EXPECT_EQ(dispatched(), (std::vector<RequestId>{id(4), id(5), id(6), id(1), id(2), id(3)}));
}

TEST_F(Priorities, ALaterInteractiveRequestTakesTheNextCredit) {
  worker_up(0, 1, 1);
  for (std::uint8_t i = 1; i <= 3; ++i) generate(batch(i));
  generate(request(4));
  worker_says(0, 1, ending(1, 1, 0));
  EXPECT_EQ(dispatched(), (std::vector<RequestId>{id(1), id(4)}));
  worker_says(0, 1, ending(4, 1, 0));
  EXPECT_EQ(dispatched().back(), id(2));
}

TEST_F(Priorities, ABatchRequestOfALostWorkerComesBackBehindInteractiveOnes) {
  worker_up(0, 1, 1);
  generate(batch(1));
  generate(batch(2));
  generate(request(3));
  step(WorkerDead{0, 1, false, -9});
  worker_up(1, 2, 3);
  EXPECT_EQ(dispatched(), (std::vector<RequestId>{id(1), id(3), id(1), id(2)}));
}

TEST_F(Priorities, PixelsGoToInteractiveRequestsFirst) {
  limits.decode_ahead = 0;
  limits.decode_jobs = 1;
  start();
  step(DecoderUp{});
  put(1, 0, fake_image(100, 100));
  generate(batch(1, 1));
  put(2, 0, fake_image(100, 100));
  generate(request(2, 1));
  EXPECT_TRUE(jobs.empty());  // no worker wants pixels yet
  worker_up(0, 1, 1);
  decode_all();
  EXPECT_EQ(dispatched(), (std::vector<RequestId>{id(2)}));
}

TEST_F(Priorities, ThePlaceCountsWhatGoesBefore) {
  generate(request(1));
  EXPECT_EQ(place(), 0u);
  generate(batch(2));
  EXPECT_EQ(place(), 1u);
  generate(request(3));
  EXPECT_EQ(place(), 1u);  // the batch request is behind it
  generate(batch(4));
  EXPECT_EQ(place(), 3u);
}

TEST_F(Priorities, ThePlaceOfOneAskedForAgainIsTrue) {
  for (std::uint8_t i = 1; i <= 4; ++i) generate(request(i));
  for (std::uint8_t i = 5; i <= 7; ++i) generate(batch(i));
  for (std::uint8_t i = 1; i <= 7; ++i) {
    generate(i <= 4 ? request(i) : batch(i));
    EXPECT_EQ(place(), i - 1u) << int{i};
  }
  worker_up(0, 1, 2);  // takes the first two
  generate(request(1));
  EXPECT_EQ(place(), 0u);
  generate(request(4));
  EXPECT_EQ(place(), 1u);
  generate(batch(7));
  EXPECT_EQ(place(), 4u);
}

}  // namespace
}  // namespace facet
