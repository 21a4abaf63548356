// Users (uids): turns, limits, and the estimate of the time to come.
#include "tests/unit/core/core_fixture.h"

namespace facet {
namespace {

class Users : public CoreFixture {
 protected:
  void ask(UserId user, std::uint8_t number, Priority priority = Priority::kInteractive,
           ClientToken client = 0) {
    GenerateRequest r = request(number);
    r.priority = priority;
    // One client for each user unless told: client tokens say nothing about users.
    step(ClientGenerate{client == 0 ? user : client, std::move(r), "ask 0", {}, user});
  }
  void put_as(UserId user, std::uint8_t number, std::size_t bytes) {
    const std::string image = fake_image(10, 10, bytes);
    step(ClientPut{user, {id(number), 0, image.size(), 0}, image, {}, user});
  }
  std::vector<int> order() const {
    std::vector<int> numbers;
    for (const SendDispatch& sent : dispatches) {
      numbers.push_back(sent.dispatch.id.bytes[0]);
    }
    return numbers;
  }
  // Dispatches everything, one at a time.
  std::vector<int> drain() {
    worker_up(0, 1, 1);
    for (std::size_t i = 0; i < dispatches.size(); ++i) {
      const DispatchOrder& sent = dispatches[i].dispatch;
      worker_says(0, 1, ending(sent.id.bytes[0], sent.attempt, 0));
    }
    return order();
  }
};

TEST_F(Users, TakeTurns) {
  for (std::uint8_t i = 1; i <= 6; ++i) ask(1001, i);
  ask(1002, 11);
  ask(1002, 12);
  ask(1003, 21);
  EXPECT_EQ(drain(), (std::vector<int>{1, 11, 21, 2, 12, 3, 4, 5, 6}));
}

TEST_F(Users, OneWhoComesLaterWaitsForOneOfEachOtherUser) {
  worker_up(0, 1, 1);
  for (std::uint8_t i = 1; i <= 6; ++i) ask(1001, i);
  worker_says(0, 1, ending(1, 1, 0));
  worker_says(0, 1, ending(2, 1, 0));
  ask(1002, 11);
  EXPECT_EQ(told<Accepted>(1002).back().queue_position, 0u) << "3 runs, 4 is of the next round";
  worker_says(0, 1, ending(3, 1, 0));
  EXPECT_EQ(order().back(), 11);
}

TEST_F(Users, ManySmallRequestsOfOneUserDoNotStandBeforeAnOlderOneForEver) {
  worker_up(0, 1, 1);
  for (std::uint8_t i = 1; i <= 8; ++i) ask(1001, i);
  std::uint8_t next = 100;
  for (int turn = 0; turn < 20 && order().back() != 8; ++turn) {
    ask(1002, next++);  // one at a time, always the newest
    const SendDispatch running = dispatches.back();
    worker_says(0, 1, ending(running.dispatch.id.bytes[0], 1, 0));
  }
  EXPECT_EQ(order().back(), 8);
}

TEST_F(Users, BatchWaitsForSixteenInteractiveRequestsAndNoMore) {
  limits.max_tokens_default = 1;
  limits.text_reserve_extra = 64;
  start();
  ask(1001, 200, Priority::kBatch);
  ask(1001, 201, Priority::kBatch);
  for (std::uint8_t i = 1; i <= 36; ++i) ask(1001, i);
  const std::vector<int> seen = drain();
  const auto place = [&](int number) {
    return std::find(seen.begin(), seen.end(), number) - seen.begin();
  };
  EXPECT_EQ(place(200), 17);  // rounds 0 to 16: at the same round interactive goes first
  EXPECT_EQ(place(201), 34);
}

TEST_F(Users, AFullQueueTurnsAwayWhoHasAnEqualShare) {
  limits.max_queued_requests = 4;
  start();
  for (std::uint8_t i = 1; i <= 5; ++i) ask(1001, i);
  ASSERT_EQ(told<Refused>(1001).size(), 1u);
  const Refused why = told<Refused>(1001).back();
  EXPECT_EQ(why.code, Code::kExhausted);
  EXPECT_GT(why.retry_after_ms, 0u);
  EXPECT_EQ(why.message, "4 requests are waiting, 4 of them of user 1001; the limit is 4");
  ask(1002, 11);
  ask(1002, 12);
  EXPECT_TRUE(told<Refused>(1002).empty()) << "below an equal share";
  ask(1002, 13);
  EXPECT_EQ(told<Refused>(1002).size(), 1u) << "two users: two each";
  ask(1003, 21);
  EXPECT_TRUE(told<Refused>(1003).empty());
}

TEST_F(Users, ALimitOfTheirOwnCountsOverAllTheirConnections) {
  limits.max_queued_per_user = 2;
  start();
  ask(1001, 1, Priority::kInteractive, 1);
  ask(1001, 2, Priority::kInteractive, 2);
  ask(1001, 3, Priority::kBatch, 3);
  ASSERT_EQ(told<Refused>(3).size(), 1u);
  EXPECT_EQ(told<Refused>(3)[0].message,
            "user 1001 has 2 requests waiting; the limit of one user is 2");
  ask(1002, 11);
  EXPECT_TRUE(told<Refused>(1002).empty());
  worker_up(0, 1, 2);  // takes them
  ask(1001, 4, Priority::kInteractive, 1);
  EXPECT_TRUE(told<Refused>(1).empty());
}

TEST_F(Users, BytesOfImagesCountOverConnectionsAndBrokers) {
  limits.max_ingest_bytes_per_user = 300;
  start();
  put_as(1001, 1, 200);
  put_as(1001, 2, 200);
  ASSERT_EQ(told<Refused>(1001).size(), 1u);
  EXPECT_EQ(told<Refused>(1001)[0].message,
            "user 1001 has 200 bytes of images under way; with 200 more it passes the limit of one "
            "user, 300");
  put_as(1002, 3, 200);
  EXPECT_TRUE(told<Refused>(1002).empty());
  step(ClientGenerate{1001, request(1, 1), "ask 1", {}, 1001});
  start();  // a new broker finds in the ledger whose they are
  forget();
  put_as(1001, 4, 200);
  EXPECT_EQ(told<Refused>(1001).size(), 1u);
  EXPECT_EQ(core->status().users.at(0).user, 1001u);
  EXPECT_EQ(core->status().users.at(0).ingest_bytes, 200u);
}

TEST_F(Users, AnImageOfFewBytesCountsForItsWholePage) {
  limits.max_ingest_pages_per_user = 3;
  start();
  step(ClientPut{1, {id(1), 0, kRingPageBytes + 1, 0}, "x", {}, 1001});  // half an image: two pages
  put_as(1001, 2, 100);
  put_as(1001, 3, 100);
  ASSERT_EQ(told<Refused>(1001).size(), 1u);
  EXPECT_EQ(told<Refused>(1001)[0].code, Code::kExhausted);
  EXPECT_GT(told<Refused>(1001)[0].retry_after_ms, 0u);
  EXPECT_EQ(told<Refused>(1001)[0].message,
            "user 1001 has 3 pages of 65536 bytes of the ring; with 1 more it passes the limit of "
            "one user, 3");
  put_as(1002, 4, 100);
  EXPECT_TRUE(told<Refused>(1002).empty());
  step(ClientGenerate{1001, request(2, 1), "ask 1", {}, 1001});
  put_as(1001, 5, 100);
  EXPECT_EQ(told<Refused>(1001).size(), 2u) << "an accepted request holds its pages still";
  step(ClientCancel{1001, id(2)});
  put_as(1001, 6, 100);
  EXPECT_EQ(told<Refused>(1001).size(), 2u);
  tick(limits.upload_ttl);
  EXPECT_TRUE(core->status().users.empty());
}

TEST_F(Users, UploadsThatNeverEndLeaveRoomForOthers) {
  limits.max_uploads = 8;
  limits.max_uploads_per_user = 6;
  start();
  for (std::uint8_t i = 1; i <= 5; ++i) {
    step(ClientPut{1, {id(i), 0, 100, 0}, "half", {}, 1001});
    tick(kSecond);
  }
  // Refused, and it has a place all the same.
  step(ClientPut{2, {id(6), 0, 100, 50}, "no beginning", {}, 1001});
  EXPECT_EQ(told<Refused>(2).size(), 1u);
  put_as(1001, 7, 100);
  ASSERT_EQ(told<Refused>(1001).size(), 1u);
  EXPECT_EQ(told<Refused>(1001)[0].code, Code::kExhausted);
  EXPECT_EQ(told<Refused>(1001)[0].message,
            "user 1001 has begun to send the images of 6 requests and not asked for their answers; "
            "the limit of one user is 6");
  put_as(1002, 8, 100);
  EXPECT_TRUE(told<Refused>(1002).empty());
  tick(limits.upload_ttl - 5 * kSecond);  // the oldest one's time is over
  put_as(1001, 7, 100);
  EXPECT_EQ(told<Refused>(1001).size(), 1u);
  EXPECT_TRUE(core->check_conservation());
}

TEST_F(Users, TheLedgerKeepsRoomForOthers) {
  limits.max_text_bytes_per_token = 1024;
  limits.max_tokens_limit = 1024;
  start();
  std::uint8_t number = 1;
  const auto ask_much = [&](UserId user) {
    GenerateRequest r = request(number++);
    r.sampling.max_tokens = 40;
    step(ClientGenerate{user, std::move(r), "ask 0", {}, user});
  };
  while (told<Refused>(1001).empty() && number < 30) ask_much(1001);
  ASSERT_FALSE(told<Refused>(1001).empty());
  EXPECT_NE(told<Refused>(1001)[0].message.find("user 1001 has unfinished requests of"),
            std::string::npos);
  ask_much(1002);
  EXPECT_TRUE(told<Refused>(1002).empty());
}

TEST_F(Users, AreForgottenWhenTheyHoldNothing) {
  worker_up(0, 1, 200);
  for (int user = 1; user <= 200; ++user) {
    ask(static_cast<UserId>(user), static_cast<std::uint8_t>(user));
    worker_says(0, 1, ending(static_cast<std::uint8_t>(user), 1, 0));
    tick(limits.record_ttl_when_full);
  }
  EXPECT_TRUE(core->status().users.empty());
}

class Estimates : public Users {
 protected:
  std::optional<std::uint32_t> eta(UserId user) { return told<Accepted>(user).back().eta_ms; }
};

TEST_F(Estimates, NothingIsSaidBeforeThereIsAMeasurement) {
  ask(1, 1);
  EXPECT_FALSE(eta(1).has_value());
  worker_up(0, 1, 1);
  ask(2, 2);
  EXPECT_FALSE(eta(2).has_value());
}

TEST_F(Estimates, AFreePlaceMeansNow) {
  worker_up(0, 1, 2);
  ask(1, 1);
  ask(2, 2);
  EXPECT_EQ(eta(2), 0u);
}

TEST_F(Estimates, FollowTheMeasuredSpeed) {
  limits.max_tokens_default = 20;
  start();
  worker_up(0, 1, 1);
  ask(1, 1);
  // 10 tokens a second (the prompt counts with the first one).
  for (std::uint32_t i = 0; i < 19; ++i) {
    now += kSecond / 10;
    worker_says(0, 1, update(1, 1, i, {5}));
  }
  ask(2, 2);
  ask(3, 3);
  ASSERT_TRUE(eta(2) && eta(3));
  EXPECT_GT(*eta(2), 200u);
  EXPECT_LT(*eta(2), 4000u);
  EXPECT_GT(*eta(3), *eta(2) * 3 / 2) << "twice as many must end, of others beside them";
  EXPECT_LT(*eta(3), *eta(2) * 4);
  EXPECT_GT(core->status().tokens_per_second, 5.0);
}

}  // namespace
}  // namespace facet
