#include <cmath>

#include "broker/core/request_check.h"
#include "tests/unit/core/core_fixture.h"

namespace facet {
namespace {

using Admission = CoreFixture;

TEST_F(Admission, AcceptsAtOnceAndTheLedgerHasItFirst) {
  generate(request(1));
  ASSERT_EQ(told<Accepted>().size(), 1u);
  EXPECT_EQ(ledger->use().records, 1u);
  EXPECT_EQ(core->num_unfinished(), 1u);
}

TEST_F(Admission, TheSameRequestAttachesAndAnotherUnderItsIdIsRefused) {
  generate(request(1));
  generate(request(1), 2);
  EXPECT_EQ(told<Accepted>(2).size(), 1u);
  GenerateRequest other = request(1);
  other.sampling.seed = 5;
  generate(other, 3);
  ASSERT_EQ(told<Refused>(3).size(), 1u);
  EXPECT_EQ(told<Refused>(3)[0].code, Code::kInvalidArgument);
  EXPECT_EQ(core->num_unfinished(), 1u);
}

TEST_F(Admission, AFullQueueRefusesWithAHintAndKeepsNothing) {
  limits.max_queued_requests = 2;
  start();
  for (std::uint8_t i = 1; i <= 3; ++i) generate(request(i));
  ASSERT_EQ(told<Refused>().size(), 1u);
  EXPECT_EQ(told<Refused>()[0].code, Code::kExhausted);
  EXPECT_GT(told<Refused>()[0].retry_after_ms, 0u);
  EXPECT_EQ(ledger->use().records, 2u);
}

TEST_F(Admission, AClientsShareIsBoundedAndOthersAreServed) {
  limits.max_requests_per_client = 1;
  start();
  generate(request(1));
  generate(request(2));
  generate(request(3), 2);
  EXPECT_EQ(told<Refused>(1).size(), 1u);
  EXPECT_EQ(told<Accepted>(2).size(), 1u);
}

TEST_F(Admission, AFullLedgerRefusesForNowARequestTooLargeForEver) {
  for (std::uint8_t i = 1; i <= 41; ++i) generate(request(i));
  ASSERT_EQ(told<Refused>().size(), 1u);
  EXPECT_EQ(told<Refused>()[0].code, Code::kExhausted);
  forget();
  limits.max_tokens_limit = 1'000'000;
  start();
  GenerateRequest huge = request(77);
  huge.sampling.max_tokens = 500'000;
  generate(huge);
  ASSERT_EQ(told<Refused>().size(), 1u);
  EXPECT_EQ(told<Refused>()[0].code, Code::kTooLarge);
  EXPECT_EQ(told<Refused>()[0].retry_after_ms, 0u);
}

TEST_F(Admission, FinishedRecordsMakeRoomInAFullLedgerWhenOldEnough) {
  worker_up(0, 1, 64);
  for (std::uint8_t i = 1; i <= 40; ++i) {
    generate(request(i));
    worker_says(0, 1, ending(i, 1, 0));
  }
  generate(request(41));
  EXPECT_EQ(told<Refused>().size(), 1u);
  tick(limits.record_ttl_when_full);
  generate(request(42));
  EXPECT_EQ(told<Refused>().size(), 1u);
  EXPECT_EQ(told<Accepted>().size(), 41u);
}

class FullLedger : public CoreFixture {
 protected:
  void fill() {
    worker_up(0, 1, 64);
    tick(2 * limits.record_ttl_when_full);  // the broker itself is no new one
    for (std::uint8_t i = 1; i <= 40; ++i) {
      generate(request(i));
      worker_says(0, 1, ending(i, 1, 0));
    }
  }

  void expect_room_only_when_old_enough(Nanos new_record_ttl) {
    CoreLimits changed = limits;
    changed.record_ttl = new_record_ttl;
    step(LimitsChanged{changed, {}});
    forget();
    tick(limits.record_ttl_when_full - 1);
    generate(request(41));
    EXPECT_TRUE(told<Accepted>().empty());
    tick(1);
    generate(request(42));
    EXPECT_EQ(told<Accepted>().size(), 1u);
  }
};

TEST_F(FullLedger, ALongerTimeToLiveMakesNoRecordOlder) {
  fill();
  expect_room_only_when_old_enough(10 * limits.record_ttl);
}

TEST_F(FullLedger, AShorterTimeToLiveMakesNoRecordYounger) {
  fill();
  expect_room_only_when_old_enough(0);
}

TEST_F(Admission, DrainingAndDisabledRefuseWithClosed) {
  generate(request(1));
  step(WorkerDisabled{0, 72});
  EXPECT_EQ(core->num_unfinished(), 1u);
  step(WorkerDisabled{1, 72});
  ASSERT_EQ(told<Done>().size(), 1u);  // nobody will ever serve it
  EXPECT_NE(told<Done>()[0].error.find("72"), std::string::npos);
  generate(request(2));
  EXPECT_EQ(told<Refused>().at(0).code, Code::kClosed);
  start();
  forget();
  step(DrainStarted{});
  generate(request(3));
  EXPECT_EQ(told<Refused>().at(0).code, Code::kClosed);
}

TEST_F(Admission, ADeadlineEndsAQueuedRequest) {
  GenerateRequest r = request(1);
  r.deadline_ms = 100;
  generate(r);
  tick(99 * kMillisecond);
  EXPECT_TRUE(told<Done>().empty());
  ASSERT_TRUE(core->next_deadline().has_value());
  tick(kMillisecond);
  ASSERT_EQ(told<Done>().size(), 1u);
  EXPECT_EQ(told<Done>()[0].code, Code::kTimeout);
  tick(limits.record_ttl);
  EXPECT_EQ(ledger->use().records, 0u);
  EXPECT_TRUE(core->is_idle());
}

TEST_F(Admission, AnUnknownRequestWithNextIsNotFound) {
  GenerateRequest r = request(1);
  r.next_index = 3;
  generate(r);
  EXPECT_EQ(told<Refused>().at(0).code, Code::kNotFound);
}

TEST(RequestCheck, NamesWhatIsWrong) {
  const CoreLimits limits;
  const auto refuses = [&](auto change, const char* name) {
    GenerateRequest r;
    r.id.bytes[0] = 1;
    r.messages.push_back({"user", {{ContentPart::Kind::kText, "hi", 0}}});
    change(r);
    const Status status = core::check_request(r, limits, nullptr);
    return !status.has_value() && status.error().message.find(name) != std::string::npos;
  };
  EXPECT_TRUE(refuses([](auto& r) { r.id = {}; }, "id"));
  EXPECT_TRUE(refuses([](auto& r) { r.messages.clear(); }, "messages"));
  EXPECT_TRUE(refuses([](auto& r) { r.num_images = 1; }, "images"));
  EXPECT_TRUE(refuses([](auto& r) { r.num_images = 99; }, "99"));
  EXPECT_TRUE(refuses([](auto& r) { r.sampling.max_tokens = 1 << 20; }, "max_tokens"));
  EXPECT_TRUE(refuses([](auto& r) { r.sampling.temperature = NAN; }, "temperature"));
  EXPECT_TRUE(refuses([](auto& r) { r.sampling.top_p = 0; }, "top_p"));
  EXPECT_TRUE(refuses([](auto& r) { r.sampling.top_p = 1e-300; }, "top_p"));
  EXPECT_TRUE(refuses([](auto& r) { r.sampling.repetition_penalty = 9e-4; }, "repetition_penalty"));
  EXPECT_FALSE(refuses([](auto& r) { r.sampling.repetition_penalty = 1e-3; }, ""));
  EXPECT_TRUE(refuses([](auto& r) { r.sampling.min_tokens = 300; },
                      "min_tokens is 300; max_tokens is 256"));
  EXPECT_TRUE(refuses([](auto& r) { r.deadline_ms = UINT32_MAX; }, "deadline_ms"));
  EXPECT_TRUE(refuses([](auto& r) { r.messages[0].content[0].text.clear(); }, "prompt is empty"));
  EXPECT_TRUE(refuses([](auto& r) { r.messages[0].content.clear(); }, "prompt is empty"));
  EXPECT_TRUE(refuses(
      [](auto& r) {
        r.num_images = 1;
        r.messages[0].content.push_back({ContentPart::Kind::kImage, "", 1});
      },
      "image 1"));
}

}  // namespace
}  // namespace facet
