// facet-worker-echo as a process, with the test as its supervisor and broker.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>

#include "tests/unit/worker_service/worker_harness.h"
#include "worker/echo/echo_answer.h"
#include "tests/unit/protocol/dispatch_order.h"

namespace facet {
namespace {

Dispatch make_dispatch(const std::string& prompt, std::uint32_t max_tokens) {
  Dispatch dispatch;
  dispatch.attempt = 1;
  dispatch.request.id = RequestId::random();
  dispatch.request.messages.push_back({"user", {{ContentPart::Kind::kText, prompt, 0}}});
  dispatch.request.sampling.max_tokens = max_tokens;
  dispatch.request.sampling.ignore_eos = true;
  return dispatch;
}

void add_image(Dispatch& dispatch, const ImageDescriptor& image) {
  GenerateRequest& request = dispatch.request;
  request.messages[0].content.push_back({ContentPart::Kind::kImage, "", request.num_images++});
  dispatch.images.push_back(image);
}

// All that was said about one request until it ended.
struct Told {
  std::vector<std::int32_t> tokens;
  std::string text;
  SequenceEnd end;
  std::uint32_t attempt = 0;
};

// Collects steps until `count` sequences have ended.
std::map<RequestId, Told> collect(WorkerHarness& worker, std::size_t count) {
  std::map<RequestId, Told> told;
  std::size_t ended = 0;
  std::uint64_t last_step = 0;
  while (ended < count) {
    auto message = worker.receive();
    if (!message || !std::holds_alternative<Step>(*message)) {
      ADD_FAILURE() << "no step; " << ended << " of " << count << " have ended";
      return told;
    }
    const Step& step = std::get<Step>(*message);
    EXPECT_GE(step.step, last_step);
    last_step = step.step;
    for (const SequenceUpdate& update : step.updates) {
      Told& about = told[update.id];
      EXPECT_EQ(update.token_ids.size(), update.token_texts.size());
      about.tokens.insert(about.tokens.end(), update.token_ids.begin(), update.token_ids.end());
      about.attempt = update.attempt;
      about.text += std::accumulate(update.token_texts.begin(), update.token_texts.end(),
                                    std::string());
      if (!update.ended) continue;
      about.end = update.end;
      about.text += update.end.text;
      ++ended;
    }
  }
  return told;
}

TEST(WorkerProcess, SaysHelloShowsItsPageAndAnswersFromTheRing) {
  WorkerHarness worker("credits = 7");
  worker.start();
  const auto hello = worker.expect_hello();
  ASSERT_TRUE(hello.has_value());
  EXPECT_EQ(hello->worker, 0u);
  EXPECT_EQ(hello->incarnation, 77u);
  EXPECT_EQ(hello->pid, static_cast<std::uint32_t>(worker.pid()));
  EXPECT_EQ(hello->credits, 7u);
  EXPECT_EQ(hello->model.family, "echo");
  EXPECT_TRUE(WorkerHarness::eventually([&] { return worker.page().ready.load() == 1; }));
  EXPECT_EQ(worker.page().magic.load(), WorkerPage::kMagic);
  EXPECT_EQ(worker.page().incarnation.load(), 77u);

  Dispatch dispatch = make_dispatch("what is this?", 12);
  add_image(dispatch, worker.put_image(dispatch.request.id, 13, 9, 1));
  add_image(dispatch, worker.put_image(dispatch.request.id, 40, 30, 2));
  worker.send(encode_message(dispatch));
  const auto told = collect(worker, 1);
  ASSERT_TRUE(told.contains(dispatch.request.id));

  std::vector<ImageView> views;
  for (const ImageDescriptor& image : dispatch.images) {
    views.push_back({.pixels = worker.ring().payload(image.slot).data(), .width = image.width,
                     .height = image.height, .is_current = [] { return true; }});
  }
  std::vector<std::int32_t> expected;
  for (int i = 0; i < 12; ++i) {
    expected.push_back(echo_step(echo_prompt_digest(dispatch.request), echo_pixel_digest(views),
                                 expected).token);
  }
  EXPECT_EQ(told.at(dispatch.request.id).tokens, expected);
  EXPECT_EQ(told.at(dispatch.request.id).end.kind, SequenceEnd::Kind::kLength);
  EXPECT_EQ(worker.page().steps.load(), 12u);
}

TEST(WorkerProcess, IdleWorkerShowsProgress) {
  WorkerHarness worker;
  worker.start();
  ASSERT_TRUE(worker.expect_hello().has_value());
  const std::uint64_t before = worker.page().progress.load();
  EXPECT_TRUE(
      WorkerHarness::eventually([&] { return worker.page().progress.load() > before + 2; }));
  EXPECT_EQ(worker.page().phase.load(), static_cast<std::uint32_t>(WorkerPhase::kIdle));
}

TEST(WorkerProcess, WrongDescriptorsEndTheirRequestOnly) {
  WorkerHarness worker;
  worker.start();
  ASSERT_TRUE(worker.expect_hello().has_value());
  std::vector<Dispatch> bad;
  for (int i = 0; i < 6; ++i) {
    bad.push_back(make_dispatch("bad " + std::to_string(i), 4));
    add_image(bad.back(), worker.put_image(bad.back().request.id, 20, 20, 3));
  }
  bad[0].images[0].generation += 1;
  bad[1].images[0].slot = 1u << 30;
  bad[2].images[0].offset += kRingPageBytes;
  bad[3].images[0].width = 4'000'000'000;
  bad[4].images[0].height = 21;
  worker.ring().retire(bad[5].images[0].slot);
  Dispatch good = make_dispatch("good", 4);
  add_image(good, worker.put_image(good.request.id, 20, 20, 3));
  for (const Dispatch& dispatch : bad) worker.send(encode_message(dispatch));
  worker.send(encode_message(good));

  const auto told = collect(worker, 7);
  for (const Dispatch& dispatch : bad) {
    ASSERT_TRUE(told.contains(dispatch.request.id));
    EXPECT_EQ(told.at(dispatch.request.id).end.kind, SequenceEnd::Kind::kError);
    EXPECT_EQ(told.at(dispatch.request.id).end.code, Code::kCorrupt);
    EXPECT_TRUE(told.at(dispatch.request.id).tokens.empty());
  }
  EXPECT_EQ(told.at(good.request.id).tokens.size(), 4u);
}

TEST(WorkerProcess, SlotReplacedWhileTheSequenceRunsEndsIt) {
  WorkerHarness worker("echo.token_us = 2000");
  worker.start();
  ASSERT_TRUE(worker.expect_hello().has_value());
  Dispatch dispatch = make_dispatch("long", 10'000);
  add_image(dispatch, worker.put_image(dispatch.request.id, 20, 20, 3));
  worker.send(encode_message(dispatch));
  auto first = worker.receive();
  ASSERT_TRUE(first.has_value() && std::holds_alternative<Step>(*first));
  worker.ring().retire(dispatch.images[0].slot);
  worker.ring().free(dispatch.images[0].slot);
  const auto told = collect(worker, 1);
  EXPECT_EQ(told.at(dispatch.request.id).end.code, Code::kCorrupt);
}

TEST(WorkerProcess, CancelsByAttemptAndReplacesAnOlderAttempt) {
  WorkerHarness worker("echo.token_us = 1000");
  worker.start();
  ASSERT_TRUE(worker.expect_hello().has_value());
  Dispatch dispatch = make_dispatch("long", 16'000);
  worker.send(encode_message(dispatch));
  worker.send(encode_message(dispatch));  // a repeat is no second sequence
  worker.send(encode_message(CancelSequence{dispatch.request.id, 9}));
  dispatch.attempt = 2;
  worker.send(encode_message(dispatch));  // ends attempt 1
  EXPECT_EQ(collect(worker, 1).at(dispatch.request.id).end.kind, SequenceEnd::Kind::kCancelled);
  worker.send(encode_message(CancelSequence{dispatch.request.id, 2}));
  const auto told = collect(worker, 1);
  EXPECT_EQ(told.at(dispatch.request.id).attempt, 2u);
  EXPECT_EQ(told.at(dispatch.request.id).end.kind, SequenceEnd::Kind::kCancelled);
}

TEST(WorkerProcess, MoreThanTheCreditsIsHandedBack) {
  WorkerHarness worker("credits = 2\necho.token_us = 1000");
  worker.start();
  ASSERT_TRUE(worker.expect_hello().has_value());
  std::vector<Dispatch> dispatches;
  for (int i = 0; i < 3; ++i) {
    dispatches.push_back(make_dispatch("d" + std::to_string(i), 300));
    worker.send(encode_message(dispatches.back()));
  }
  const auto told = collect(worker, 3);
  std::size_t handed_back = 0;
  for (const auto& [id, about] : told) {
    if (about.end.kind == SequenceEnd::Kind::kPreempted) ++handed_back;
  }
  EXPECT_EQ(handed_back, 1u);
}

TEST(WorkerProcess, DrainFinishesWhatRunsAndExitsWithNothingLost) {
  WorkerHarness worker("echo.token_us = 1000");
  worker.start();
  ASSERT_TRUE(worker.expect_hello().has_value());
  const Dispatch dispatch = make_dispatch("last", 100);
  worker.send(encode_message(dispatch));
  worker.send(encode_message(Drain{}));
  EXPECT_EQ(collect(worker, 1).at(dispatch.request.id).tokens.size(), 100u);
  const auto status = worker.wait_for_exit();
  ASSERT_TRUE(status.has_value());
  EXPECT_TRUE(WIFEXITED(*status) && WEXITSTATUS(*status) == kExitOk);
}

TEST(WorkerProcess, EndsWithItsSupervisor) {
  WorkerHarness worker;
  worker.start();
  ASSERT_TRUE(worker.expect_hello().has_value());
  worker.cut_lifeline();
  const auto status = worker.wait_for_exit();
  ASSERT_TRUE(status.has_value());
  EXPECT_TRUE(WIFEXITED(*status) && WEXITSTATUS(*status) == kExitFailure);
}

std::vector<std::int32_t> echo_tokens(const Dispatch& dispatch, std::uint32_t count) {
  std::vector<std::int32_t> tokens;
  while (tokens.size() < count) {
    tokens.push_back(
        echo_step(echo_prompt_digest(dispatch.request), echo_pixel_digest({}), tokens).token);
  }
  return tokens;
}

TEST(WorkerProcess, OutlivesBrokersAndGoesOnFromWhatTheNextOneLacks) {
  WorkerHarness worker("echo.token_us = 1000");
  worker.start();
  ASSERT_TRUE(worker.expect_hello().has_value());
  // Not through before the last broker has come, on a slow host too.
  const auto num_tokens = static_cast<std::uint32_t>(patient_ms(1500));
  const Dispatch dispatch = make_dispatch("long", num_tokens);
  const RequestId id = dispatch.request.id;
  worker.send(encode_message(dispatch));
  for (std::uint64_t epoch = 2; epoch < 6; ++epoch) {
    ASSERT_TRUE(worker.receive().has_value());
    worker.publish(0);
    const std::uint64_t steps = worker.page().steps.load();  // it computes on with no broker there
    EXPECT_TRUE(
        WorkerHarness::eventually([&] { return worker.page().steps.load() > steps + 10; }));
    worker.publish(epoch);
    const auto hello = worker.expect_unanswered_hello();
    ASSERT_TRUE(hello.has_value());
    ASSERT_EQ(hello->held.size(), 1u);
    EXPECT_EQ(hello->held[0].id, id);
    EXPECT_EQ(hello->held[0].attempt, 1u);
    EXPECT_FALSE(hello->held[0].ended);
    EXPECT_FALSE(hello->held[0].reads_images);
    EXPECT_GT(hello->held[0].num_tokens, 10u);
    worker.send(encode_message(Resume{{{id, 1, 1}}}));
  }
  const auto told = collect(worker, 1);
  std::vector<std::int32_t> expected = echo_tokens(dispatch, num_tokens);
  expected.erase(expected.begin());
  EXPECT_EQ(told.at(id).tokens, expected);
}

TEST(WorkerProcess, KeepsAnEndUntilItIsAcknowledgedAndDropsWhatNobodyWants) {
  WorkerHarness worker("echo.token_us = 1000");
  worker.start();
  ASSERT_TRUE(worker.expect_hello().has_value());
  const Dispatch known = make_dispatch("known", 3);
  const Dispatch lost = make_dispatch("lost", 3);
  const Dispatch unwanted = make_dispatch("unwanted", 16'000);
  worker.send(encode_message(known));
  collect(worker, 1);
  worker.send(encode_message(StepAck{3}));
  worker.send(encode_message(lost));
  collect(worker, 1);  // as if it had not come
  worker.send(encode_message(unwanted));
  ASSERT_TRUE(worker.receive().has_value());
  worker.publish(2);
  const auto hello = worker.expect_unanswered_hello();
  ASSERT_TRUE(hello.has_value());
  std::map<RequestId, HeldSequence> held;
  for (const HeldSequence& one : hello->held) held[one.id] = one;
  EXPECT_FALSE(held.contains(known.request.id));
  ASSERT_TRUE(held.contains(lost.request.id) && held.contains(unwanted.request.id));
  EXPECT_TRUE(held[lost.request.id].ended);
  EXPECT_EQ(held[lost.request.id].num_tokens, 3u);
  EXPECT_FALSE(held[unwanted.request.id].ended);
  worker.send(encode_message(Resume{{{lost.request.id, 1, 0}}}));
  const auto told = collect(worker, 2);
  EXPECT_EQ(told.at(lost.request.id).tokens, echo_tokens(lost, 3));
  EXPECT_EQ(told.at(unwanted.request.id).end.kind, SequenceEnd::Kind::kCancelled);
  EXPECT_TRUE(told.at(unwanted.request.id).tokens.empty());
}

TEST(WorkerProcess, AnImpossibleResumeEndsIt) {
  WorkerHarness worker("echo.token_us = 1000");
  worker.start();
  ASSERT_TRUE(worker.expect_hello().has_value());
  const Dispatch dispatch = make_dispatch("long", 10'000);
  worker.send(encode_message(dispatch));
  ASSERT_TRUE(worker.receive().has_value());
  worker.publish(2);
  ASSERT_TRUE(worker.expect_hello(Resume{{{dispatch.request.id, 1, 9'999}}}).has_value());
  const auto status = worker.wait_for_exit();
  ASSERT_TRUE(status.has_value());
  EXPECT_TRUE(WIFEXITED(*status) && WEXITSTATUS(*status) == kExitEngine);
}

TEST(WorkerProcess, FaultEndsItByItsSignalAndEngineErrorByItsCode) {
  for (const auto& [hook, signal_number, exit_code] :
       {std::tuple{"abort", SIGABRT, 0}, {"kill", SIGKILL, 0}, {"engine", 0, 70},
        {"segv", SIGSEGV, 0},
        {"exit", 0, 1}}) {
    WorkerHarness worker;
    worker.start();
    ASSERT_TRUE(worker.expect_hello().has_value());
    worker.send(encode_message(make_dispatch("\x01" "crash:" + std::string(hook) + "@3", 10)));
    const auto status = worker.wait_for_exit();
    ASSERT_TRUE(status.has_value()) << hook;
    if (signal_number > 0) {
      EXPECT_TRUE(WIFSIGNALED(*status) && WTERMSIG(*status) == signal_number) << hook;
    } else {
      EXPECT_TRUE(WIFEXITED(*status) && WEXITSTATUS(*status) == exit_code) << hook;
    }
  }
}

TEST(WorkerProcess, LeavesLastWordsThatTellAFaultFromAKill) {
  struct Case {
    std::string hook;   // or none: a signal from here
    int signal = 0;
    bool is_fault = false;
    bool is_from_itself = false;
  };
  const Case cases[] = {
      {"abort", SIGABRT, false, true}, {"", SIGSEGV, false, false}, {"", SIGABRT, false, false},
      {"segv", SIGSEGV, true, false},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.hook + " " + std::to_string(one.signal));
    WorkerHarness worker("echo.token_us = 1000");
    worker.start();
    ASSERT_TRUE(worker.expect_hello().has_value());
    const std::string prompt = one.hook.empty() ? "x" : "\x01" "crash:" + one.hook + "@3";
    const Dispatch dispatch = make_dispatch(prompt, 10'000);
    worker.send(encode_message(dispatch));
    if (one.hook.empty()) {  // else its steps may end with it unsent
      ASSERT_TRUE(worker.receive().has_value());  // the first step: it is at work
      kill(worker.pid(), one.signal);
    }
    const auto pid = static_cast<std::uint32_t>(worker.pid());
    const auto status = worker.wait_for_exit();
    ASSERT_TRUE(status.has_value());
    EXPECT_TRUE(WIFSIGNALED(*status) && WTERMSIG(*status) == one.signal);
    EXPECT_EQ(worker.take_rings(), 1u);
    const LastWords& words = worker.page().last_words;
    EXPECT_EQ(words.signal.load(), static_cast<std::uint32_t>(one.signal));
    EXPECT_EQ(words.signal_code.load() > 0, one.is_fault);
    EXPECT_EQ(words.sender_pid.load() == pid, one.is_from_itself);
    const BlackBox& box = worker.page().black_box;
    const BlackBox::Side& side = box.sides[box.shown.load() & 1];
    ASSERT_EQ(side.num_requests.load(), 1u);
    RequestId id;
    const std::uint64_t halves[] = {side.ids[0][0].load(), side.ids[0][1].load()};
    std::memcpy(id.bytes.data(), halves, sizeof halves);
    EXPECT_EQ(id, dispatch.request.id);
  }
}

TEST(WorkerProcess, SentinelsSeeItsDeathBeforeItIsGone) {
  // The memory of a big process takes longer to free than its sentinels to die.
  WorkerHarness worker("echo.memory = \"512MiB\"");
  worker.start();
  ASSERT_TRUE(worker.expect_hello().has_value());
  EXPECT_FALSE(worker.is_death_seen());
  kill(worker.pid(), SIGKILL);
  EXPECT_TRUE(WorkerHarness::eventually([&] { return worker.is_death_seen(); }));
  const auto status = worker.wait_for_exit();
  ASSERT_TRUE(status.has_value());
  EXPECT_TRUE(WIFSIGNALED(*status) && WTERMSIG(*status) == SIGKILL);
}

TEST(WorkerProcess, NonsenseFromTheBrokerEndsItCleanly) {
  WorkerHarness worker;
  worker.start();
  ASSERT_TRUE(worker.expect_hello().has_value());
  worker.send("\xc1nonsense");
  const auto status = worker.wait_for_exit();
  ASSERT_TRUE(status.has_value());
  EXPECT_TRUE(WIFEXITED(*status) && WEXITSTATUS(*status) == kExitEngine);
}

TEST(WorkerProcess, BadConfigurationIsNamedByItsExitCode) {
  WorkerHarness worker("no_such_key = 1");
  worker.start();
  const auto status = worker.wait_for_exit();
  ASSERT_TRUE(status.has_value());
  EXPECT_TRUE(WIFEXITED(*status) && WEXITSTATUS(*status) == kExitBadConfig);
}

}  // namespace
}  // namespace facet
