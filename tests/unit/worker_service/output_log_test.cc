#include "worker/service/output_log.h"

#include <gtest/gtest.h>

namespace facet {
namespace {

RequestId id(std::uint8_t number) {
  RequestId made;
  made.bytes[0] = number;
  return made;
}

SequenceUpdate update(std::uint8_t number, std::uint32_t index, std::vector<std::int32_t> ids) {
  SequenceUpdate made;
  made.id = id(number);
  made.attempt = 1;
  made.index = index;
  for (const std::int32_t token : ids) made.token_texts.push_back("t" + std::to_string(token));
  made.token_ids = std::move(ids);
  return made;
}

SequenceUpdate ending(std::uint8_t number, std::uint32_t index) {
  SequenceUpdate made = update(number, index, {});
  made.ended = true;
  made.end.kind = SequenceEnd::Kind::kStop;
  made.end.text = "tail";
  return made;
}

TEST(OutputLog, SaysEverythingOnceInOrder) {
  OutputLog log;
  log.open({id(1), 1}, 5, true);
  EXPECT_FALSE(log.has_unsent());
  log.add(update(1, 5, {10, 11}));
  log.add(update(2, 0, {20}));
  log.add(update(1, 7, {12}));
  const auto said = log.take_unsent(1, 100);
  ASSERT_EQ(said.size(), 2u);
  EXPECT_EQ(said[0].index, 5u);
  EXPECT_EQ(said[0].token_ids, (std::vector<std::int32_t>{10, 11, 12}));
  EXPECT_EQ(said[0].token_texts[2], "t12");
  EXPECT_FALSE(said[0].images_released);
  EXPECT_EQ(said[1].token_ids, (std::vector<std::int32_t>{20}));
  EXPECT_FALSE(log.has_unsent());
  EXPECT_TRUE(log.take_unsent(2, 100).empty());
}

TEST(OutputLog, LongOutputComesInPieces) {
  OutputLog log;
  log.add(update(1, 0, {1, 2, 3, 4, 5}));
  log.add(ending(1, 5));
  auto said = log.take_unsent(1, 2);
  EXPECT_EQ(said.at(0).token_ids.size(), 2u);
  EXPECT_FALSE(said[0].ended);
  said = log.take_unsent(2, 2);
  EXPECT_EQ(said.at(0).index, 2u);
  said = log.take_unsent(3, 2);
  EXPECT_EQ(said.at(0).token_ids, (std::vector<std::int32_t>{5}));
  EXPECT_TRUE(said[0].ended);
  EXPECT_EQ(said[0].end.text, "tail");
}

TEST(OutputLog, LogprobsStayWithTheirTokens) {
  const auto with = [](std::uint32_t index, std::vector<std::int32_t> ids) {
    SequenceUpdate made = update(1, index, ids);
    for (const std::int32_t token : ids)
      for (int i = 0; i < 3; ++i) made.logprobs.push_back({token, static_cast<float>(-i)});
    return made;
  };
  OutputLog log;
  log.open({id(1), 1}, 0, false);
  log.add(with(0, {10, 11, 12}));
  log.add(with(3, {13}));
  log.add(update(2, 0, {20}));
  EXPECT_EQ(log.take_unsent(1, 2).at(0).logprobs, with(0, {10, 11}).logprobs);
  log.acknowledge(1);
  (void)log.held();
  ASSERT_TRUE(log.resume({{{id(1), 1, 3}, {id(2), 1, 0}}}));
  const auto said = log.take_unsent(2, 100);
  EXPECT_EQ(said.at(0).token_ids, (std::vector<std::int32_t>{13}));
  EXPECT_EQ(said[0].logprobs, with(3, {13}).logprobs);
  EXPECT_TRUE(said.at(1).logprobs.empty());
  log.add(with(4, {14}));
  EXPECT_EQ(log.take_unsent(3, 100).at(0).logprobs, with(4, {14}).logprobs);
}

TEST(OutputLog, AcknowledgedOutputIsForgottenAndAnEndedSequenceWithIt) {
  OutputLog log;
  log.open({id(1), 1}, 0, false);
  for (std::uint64_t step = 1; step <= 10; ++step) {
    log.add(update(1, static_cast<std::uint32_t>(step - 1), {7}));
    log.take_unsent(step, 100);
  }
  EXPECT_EQ(log.num_tokens(), 10u);
  log.acknowledge(4);
  EXPECT_EQ(log.num_tokens(), 6u);
  log.add(ending(1, 10));
  log.take_unsent(11, 100);
  log.acknowledge(10);
  EXPECT_EQ(log.num_tokens(), 0u);
  EXPECT_FALSE(log.is_empty());
  log.acknowledge(11);
  EXPECT_TRUE(log.is_empty());
}

TEST(OutputLog, ANewBrokerIsToldFromWhereItAsks) {
  OutputLog log;
  log.open({id(1), 1}, 0, true);
  log.add(update(1, 0, {1, 2, 3}));
  log.take_unsent(1, 100);
  log.add(ending(2, 4));  // refused before it began
  const auto held = log.held();
  ASSERT_EQ(held.size(), 2u);
  EXPECT_EQ(held[0].num_tokens, 3u);
  EXPECT_TRUE(held[0].reads_images);
  EXPECT_FALSE(held[0].ended);
  EXPECT_EQ(held[1].num_tokens, 4u);
  EXPECT_TRUE(held[1].ended);
  log.add(update(1, 3, {4}));  // while it waits for the answer
  const auto cancelled = log.resume({{{id(1), 1, 2}, {id(2), 1, 4}}});
  ASSERT_TRUE(cancelled.has_value());
  EXPECT_TRUE(cancelled->empty());
  const auto said = log.take_unsent(2, 100);
  ASSERT_EQ(said.size(), 2u);
  EXPECT_EQ(said[0].index, 2u);
  EXPECT_EQ(said[0].token_ids, (std::vector<std::int32_t>{3, 4}));
  EXPECT_TRUE(said[1].ended);
  EXPECT_EQ(said[1].index, 4u);
  EXPECT_EQ(log.num_tokens(), 2u);
}

TEST(OutputLog, WhatIsNotAskedForIsCancelledAndOnlyItsEndIsSaid) {
  OutputLog log;
  log.open({id(1), 1}, 0, false);
  log.open({id(2), 1}, 0, false);
  log.add(update(1, 0, {1, 2}));
  log.add(update(2, 0, {1, 2}));
  log.add(ending(3, 0));
  log.held();
  log.add(ending(2, 2));  // after the hello said that it runs
  const auto cancelled = log.resume({});
  ASSERT_TRUE(cancelled.has_value());
  ASSERT_EQ(cancelled->size(), 1u);
  EXPECT_EQ(cancelled->at(0).id, id(1));
  auto said = log.take_unsent(1, 100);
  ASSERT_EQ(said.size(), 1u);
  EXPECT_EQ(said[0].id, id(2));
  EXPECT_EQ(said[0].end.kind, SequenceEnd::Kind::kCancelled);
  log.add(update(1, 2, {3}));
  EXPECT_FALSE(log.has_unsent());
  SequenceUpdate end = ending(1, 3);
  end.end.kind = SequenceEnd::Kind::kCancelled;
  log.add(end);
  said = log.take_unsent(2, 100);
  ASSERT_EQ(said.size(), 1u);
  EXPECT_TRUE(said[0].token_ids.empty());
  EXPECT_TRUE(said[0].ended);
  log.acknowledge(2);
  EXPECT_TRUE(log.is_empty());
  EXPECT_EQ(log.num_tokens(), 0u);
}

TEST(OutputLog, TokensThatAreNotThereCannotBeAskedFor) {
  for (const std::uint32_t from : {0u, 4u}) {
    OutputLog log;
    log.open({id(1), 1}, 0, false);
    log.add(update(1, 0, {1, 2, 3}));
    log.take_unsent(1, 1);
    log.take_unsent(2, 100);
    log.acknowledge(1);
    log.held();
    EXPECT_FALSE(log.resume({{{id(1), 1, from}}}).has_value()) << from;
  }
}

}  // namespace
}  // namespace facet
