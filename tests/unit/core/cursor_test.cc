#include "tests/unit/core/core_fixture.h"

namespace facet {
namespace {

class Cursors : public CoreFixture {
 protected:
  Cursors() {
    worker_up(0, 10);
    generate(request(1));
  }
};

TEST_F(Cursors, EachClientReadsFromWhereItWants) {
  worker_says(0, 10, update(1, 1, 0, {5, 6, 7}));
  GenerateRequest again = request(1);
  again.next_index = 2;
  generate(again, 2);
  ASSERT_EQ(told<Tokens>(2).size(), 1u);
  EXPECT_EQ(told<Tokens>(2)[0].index, 2u);
  EXPECT_EQ(told<Tokens>(2)[0].text, "t7 ");
  again.next_index = 9;
  generate(again, 3);
  EXPECT_EQ(told<Refused>(3).at(0).code, Code::kInvalidArgument);
}

TEST_F(Cursors, AFullSocketGoesBackAndOnAgain) {
  worker_says(0, 10, update(1, 1, 0, {5}));
  const auto sent = notices;
  for (const SendClient& notice : sent) step(ClientBlocked{1, notice.message});
  forget();
  worker_says(0, 10, update(1, 1, 1, {6}));
  EXPECT_TRUE(notices.empty());
  step(ClientWritable{1});
  EXPECT_EQ(told<Accepted>().size(), 1u);
  ASSERT_EQ(told<Tokens>().size(), 1u);
  EXPECT_EQ(told<Tokens>()[0].index, 0u);
  EXPECT_EQ(told<Tokens>()[0].token_ids.size(), 2u);
}

TEST_F(Cursors, ABlockedClientIsTriedAgainByTimer) {
  worker_says(0, 10, ending(1, 1, 0));
  const Done done = told<Done>().at(0);
  forget();
  step(ClientBlocked{1, done});
  EXPECT_TRUE(told<Done>().empty());
  ASSERT_TRUE(core->next_deadline().has_value());
  tick(limits.blocked_retry);
  EXPECT_EQ(told<Done>().size(), 1u);
}

TEST_F(Cursors, LongAnswersComeInBoundedMessages) {
  limits.max_tokens_bytes = 24;
  limits.max_messages_per_pump = 2;
  start();
  worker_up(0, 11);
  forget();
  generate(request(1));
  worker_says(0, 11, update(1, 2, 0, {1, 2, 3, 4, 5, 6, 7}));
  for (int i = 0; i < 10; ++i) tick();
  std::uint32_t next = 0;
  for (const Tokens& tokens : told<Tokens>()) {
    EXPECT_EQ(tokens.index, next);
    EXPECT_LE(tokens.token_ids.size() * 4 + tokens.text.size(), 24u);
    next += static_cast<std::uint32_t>(tokens.token_ids.size());
  }
  EXPECT_EQ(next, 7u);
}

TEST_F(Cursors, KeepalivesGoToWhoeverWaits) {
  forget();
  tick(kSecond);
  tick(kSecond);
  EXPECT_EQ(told<Keepalive>().size(), 2u);
  worker_says(0, 10, ending(1, 1, 0));
  forget();
  tick(kSecond);
  EXPECT_TRUE(told<Keepalive>().empty());
}

TEST_F(Cursors, AClientThatIsGoneLosesNothingOfItsRequest) {
  step(ClientGone{1});
  worker_says(0, 10, update(1, 1, 0, {5}));
  worker_says(0, 10, ending(1, 1, 1));
  EXPECT_EQ(core->num_unfinished(), 0u);
  generate(request(1), 2);
  EXPECT_EQ(told<Tokens>(2).size(), 1u);
  ASSERT_EQ(told<Done>(2).size(), 1u);
  EXPECT_EQ(told<Done>(2)[0].usage.completion_tokens, 1u);
  EXPECT_EQ(told<Done>(2)[0].attempts, 1u);
}

TEST_F(Cursors, AFinishedRecordIsKeptForAWhileAndThenNotFound) {
  worker_says(0, 10, ending(1, 1, 0));
  tick(limits.record_ttl - 1);
  generate(request(1), 2);
  EXPECT_EQ(told<Done>(2).size(), 1u);
  tick(1);
  EXPECT_EQ(ledger->use().records, 0u);
}

}  // namespace
}  // namespace facet
