#include "worker/echo/echo_engine.h"

#include <gtest/gtest.h>
#include <utf8proc.h>

#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "worker/echo/echo_answer.h"

namespace facet {
namespace {

// What one sequence came to.
struct Answer {
  std::vector<std::int32_t> tokens;
  std::string text;
  SequenceEnd end;
};

struct Picture {
  std::uint32_t width;
  std::uint32_t height;
  std::vector<std::uint8_t> pixels;
  bool current = true;

  Picture(std::uint32_t w, std::uint32_t h, std::uint8_t fill) : width(w), height(h) {
    pixels.resize(std::size_t{3} * w * h);
    for (std::size_t i = 0; i < pixels.size(); ++i) {
      pixels[i] = static_cast<std::uint8_t>(fill + i * 7);
    }
  }
  ImageView view() {
    return {.pixels = pixels.data(), .width = width, .height = height,
            .is_current = [this] { return current; }};
  }
};

GenerateRequest ask(std::string prompt, std::uint32_t max_tokens = 40) {
  GenerateRequest request;
  request.id = RequestId::random();
  request.messages.push_back({"user", {{ContentPart::Kind::kText, std::move(prompt), 0}}});
  request.sampling.max_tokens = max_tokens;
  request.sampling.ignore_eos = true;
  return request;
}

std::unique_ptr<EchoEngine> make_engine(std::uint32_t lanes = 16, std::uint32_t capacity = 64) {
  EchoOptions options{.step_time = 0, .max_lanes = lanes, .capacity = capacity};
  auto engine = EchoEngine::create(options, [](WorkerPhase) {});
  EXPECT_TRUE(engine.has_value());
  return std::move(*engine);
}

// Steps until nothing is left; checks the interface's promises on the way.
std::map<RequestId, Answer> finish(EchoEngine& engine) {
  std::map<RequestId, Answer> answers;
  while (engine.has_work()) {
    auto updates = engine.step();
    EXPECT_TRUE(updates.has_value());
    for (SequenceUpdate& update : *updates) {
      EXPECT_EQ(update.token_ids.size(), update.token_texts.size());
      Answer& answer = answers[update.id];
      for (std::size_t i = 0; i < update.token_ids.size(); ++i) {
        EXPECT_LE(update.token_texts[i].size(), engine.facts().max_token_text_bytes);
        answer.tokens.push_back(update.token_ids[i]);
        answer.text += update.token_texts[i];
      }
      if (update.ended) {
        answer.text += update.end.text;
        answer.end = update.end;
      }
    }
  }
  EXPECT_TRUE(engine.check_conservation().has_value());
  return answers;
}

Answer run(const GenerateRequest& request, std::vector<ImageView> images = {},
           std::vector<std::int32_t> committed = {}) {
  auto engine = make_engine();
  EXPECT_TRUE(engine->add({request.id, 1, request, std::move(images), std::move(committed)}));
  return finish(*engine)[request.id];
}

TEST(EchoEngine, SameRequestSameAnswerWhateverTheId) {
  Picture picture(9, 7, 3);
  const Answer first = run(ask("hello"), {picture.view()});
  const Answer second = run(ask("hello"), {picture.view()});
  EXPECT_EQ(first.tokens.size(), 40u);
  EXPECT_EQ(first.end.kind, SequenceEnd::Kind::kLength);
  EXPECT_EQ(first.tokens, second.tokens);
  EXPECT_EQ(first.text, second.text);
}

TEST(EchoEngine, LogprobsAreTheTokensAndChangeNoAnswer) {
  GenerateRequest request = ask("hello", 5);
  request.sampling.logprobs = 2;
  auto engine = make_engine();
  ASSERT_TRUE(engine->add({request.id, 1, request, {}, {}}));
  std::vector<std::int32_t> tokens;
  while (engine->has_work()) {
    const auto updates = engine->step();
    for (const SequenceUpdate& update : *updates) {
      for (std::size_t i = 0; i < update.token_ids.size(); ++i) {
        tokens.push_back(update.token_ids[i]);
        const auto expected = echo_logprobs(update.token_ids[i], 2);
        ASSERT_EQ(expected.size(), 3u);
        EXPECT_EQ(std::vector(update.logprobs.begin(), update.logprobs.begin() + 3), expected);
      }
      EXPECT_EQ(update.logprobs.size(), 3 * update.token_ids.size());
    }
  }
  EXPECT_EQ(tokens, run(ask("hello", 5)).tokens);
}

TEST(EchoEngine, EverySmallChangeShows) {
  Picture a(9, 7, 3), b(9, 7, 4), turned(7, 9, 3), one_bit(9, 7, 3);
  one_bit.pixels.back() ^= 1;
  std::set<std::vector<std::int32_t>> seen;
  std::size_t variants = 0;
  const auto expect_new = [&](const GenerateRequest& request, std::vector<ImageView> images) {
    seen.insert(run(request, std::move(images)).tokens);
    ++variants;
    EXPECT_EQ(seen.size(), variants);
  };
  expect_new(ask("hello"), {});
  expect_new(ask("hellp"), {});
  expect_new(ask("hello"), {a.view()});
  expect_new(ask("hello"), {b.view()});
  expect_new(ask("hello"), {turned.view()});
  expect_new(ask("hello"), {one_bit.view()});
  expect_new(ask("hello"), {a.view(), b.view()});
  expect_new(ask("hello"), {b.view(), a.view()});
  expect_new(ask("hello"), {a.view(), a.view()});
  GenerateRequest seeded = ask("hello");
  seeded.sampling.seed = 1;
  expect_new(seeded, {});
  GenerateRequest other_role = ask("hello");
  other_role.messages[0].role = "system";
  expect_new(other_role, {});
  GenerateRequest two_parts = ask("hel");
  two_parts.messages[0].content.push_back({ContentPart::Kind::kText, "lo", 0});
  expect_new(two_parts, {});
  GenerateRequest warm = ask("hello");
  warm.sampling.temperature = 0.5;
  expect_new(warm, {});
}

TEST(EchoEngine, ResumesAtEveryPositionWithTheSameTokensAndText) {
  Picture picture(31, 17, 9);
  GenerateRequest request = ask("resume me", 60);
  const Answer whole = run(request, {picture.view()});
  for (std::size_t cut = 0; cut <= whole.tokens.size(); ++cut) {
    const auto middle = whole.tokens.begin() + static_cast<std::ptrdiff_t>(cut);
    std::string text;  // what attempt 1 had sent when it died
    for (std::size_t i = 0; i < cut; ++i) {
      text += (i == 0 ? "" : echo_text(whole.tokens[i - 1]).held) + echo_text(whole.tokens[i]).now;
    }
    const Answer rest = run(request, {picture.view()}, {whole.tokens.begin(), middle});
    EXPECT_EQ(rest.tokens, std::vector(middle, whole.tokens.end())) << cut;
    EXPECT_EQ(text + rest.text, whole.text) << cut;
    EXPECT_EQ(rest.end.kind, SequenceEnd::Kind::kLength);
  }
}

TEST(EchoEngine, StopsByItselfUnlessToldNotTo) {
  std::set<std::size_t> lengths;
  for (int i = 0; i < 50; ++i) {
    GenerateRequest request = ask("prompt " + std::to_string(i), 500);
    request.sampling.ignore_eos = false;
    request.sampling.min_tokens = 2;
    const Answer answer = run(request);
    EXPECT_GE(answer.tokens.size(), 2u);
    if (answer.tokens.size() < 500) {
      EXPECT_EQ(answer.end.kind, SequenceEnd::Kind::kStop);
    }
    lengths.insert(answer.tokens.size());
  }
  EXPECT_GT(lengths.size(), 10u);
}

TEST(EchoEngine, TextIsWholeCharacters) {
  std::set<std::string> held;
  for (std::int32_t token = 0; token < kEchoVocabulary; ++token) {
    const EchoText text = echo_text(token);
    held.insert(text.held);
    for (const std::string& part : {text.now, text.held}) {
      const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(part.data());
      auto left = static_cast<utf8proc_ssize_t>(part.size());
      while (left > 0) {
        utf8proc_int32_t point = -1;
        const utf8proc_ssize_t used = utf8proc_iterate(bytes, left, &point);
        ASSERT_GT(used, 0) << token;
        bytes += used;
        left -= used;
      }
    }
  }
  EXPECT_EQ(held.size(), 9u);  // none and eight characters
}

TEST(EchoEngine, ReplacedPixelsEndTheSequenceAloneWithoutAToken) {
  Picture good(5, 5, 1), bad(5, 5, 2);
  auto engine = make_engine();
  GenerateRequest keeps = ask("keeps", 10), loses = ask("loses", 10);
  ASSERT_TRUE(engine->add({keeps.id, 1, keeps, {good.view()}, {}}));
  ASSERT_TRUE(engine->add({loses.id, 1, loses, {good.view(), bad.view()}, {}}));
  ASSERT_TRUE(engine->step().has_value());
  bad.current = false;
  auto answers = finish(*engine);
  EXPECT_EQ(answers[keeps.id].end.kind, SequenceEnd::Kind::kLength);
  EXPECT_EQ(answers[loses.id].end.kind, SequenceEnd::Kind::kError);
  EXPECT_EQ(answers[loses.id].end.code, Code::kCorrupt);
  EXPECT_TRUE(answers[loses.id].tokens.empty());
  EXPECT_NE(answers[loses.id].end.message.find("image 1"), std::string::npos);
}

TEST(EchoEngine, BatchesOfAnyWidthGiveTheSameAnswers) {
  std::vector<GenerateRequest> requests;
  for (int i = 0; i < 40; ++i) {
    requests.push_back(ask("row " + std::to_string(i), 5 + static_cast<std::uint32_t>(i % 9)));
  }
  for (std::uint32_t lanes : {1u, 3u, 64u}) {
    auto engine = make_engine(lanes);
    for (const auto& request : requests) ASSERT_TRUE(engine->add({request.id, 1, request, {}, {}}));
    auto answers = finish(*engine);
    for (const auto& request : requests) {
      EXPECT_EQ(answers[request.id].tokens, run(request).tokens) << lanes;
    }
  }
}

TEST(EchoEngine, CancelNeedsTheRightAttemptAndIsReportedOnce) {
  auto engine = make_engine(1);
  GenerateRequest runs = ask("runs"), waits = ask("waits");
  ASSERT_TRUE(engine->add({runs.id, 4, runs, {}, {}}));
  ASSERT_TRUE(engine->add({waits.id, 1, waits, {}, {}}));
  engine->cancel(runs.id, 3);
  engine->cancel(waits.id, 1);
  engine->cancel(RequestId::random(), 1);
  auto updates = engine->step();
  ASSERT_TRUE(updates.has_value());
  ASSERT_EQ(updates->size(), 2u);
  EXPECT_FALSE((*updates)[0].ended);
  EXPECT_TRUE((*updates)[1].ended);
  EXPECT_EQ((*updates)[1].end.kind, SequenceEnd::Kind::kCancelled);
  engine->cancel(runs.id, 4);
  EXPECT_EQ(finish(*engine)[runs.id].end.kind, SequenceEnd::Kind::kCancelled);
}

TEST(EchoEngine, RefusesWhatDoesNotFitWithTheNumbers) {
  auto engine = make_engine(1, 2);
  GenerateRequest big = ask("x", 1 << 17);
  auto refused = engine->add({big.id, 1, big, {}, {}});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::kTooLarge);
  EXPECT_NE(refused.error().message.find("131073"), std::string::npos);
  GenerateRequest odd = ask("x");
  EXPECT_EQ(engine->add({odd.id, 1, odd, {}, {-1}}).error().code, Code::kInvalidArgument);
  EXPECT_TRUE(engine->add({odd.id, 1, odd, {}, {}}).has_value());
  EXPECT_TRUE(engine->add({odd.id, 2, odd, {}, {}}).has_value());
  EXPECT_EQ(engine->add({odd.id, 3, odd, {}, {}}).error().code, Code::kExhausted);
}

TEST(EchoEngine, HooksActAtTheirPositionAndAttempt) {
  GenerateRequest request = ask("\x01" "crash:fail@3x1", 10);
  const Answer failed = run(request);
  EXPECT_EQ(failed.end.kind, SequenceEnd::Kind::kError);
  EXPECT_EQ(failed.tokens.size(), 3u);
  auto engine = make_engine();
  ASSERT_TRUE(engine->add({request.id, 2, request, {}, failed.tokens}));
  EXPECT_EQ(finish(*engine)[request.id].end.kind, SequenceEnd::Kind::kLength);

  GenerateRequest fatal = ask("\x01" "crash:engine@0", 10);
  ASSERT_TRUE(engine->add({fatal.id, 1, fatal, {}, {}}));
  EXPECT_FALSE(engine->step().has_value());
}

TEST(EchoEngine, DriftMarkMakesEachAttemptAnotherOneThatSignsItsEnd) {
  const GenerateRequest request = ask("\x01" "drift please");
  std::set<std::vector<std::int32_t>> seen;
  for (std::uint32_t attempt = 1; attempt <= 3; ++attempt) {
    auto engine = make_engine();
    ASSERT_TRUE(engine->add({request.id, attempt, request, {}, {7, 8, 9}}));
    const Answer answer = finish(*engine)[request.id];
    EXPECT_EQ(answer.tokens.size(), 37u);
    EXPECT_TRUE(answer.text.ends_with("#" + std::to_string(attempt))) << answer.text;
    seen.insert(answer.tokens);
  }
  EXPECT_EQ(seen.size(), 3u);
  GenerateRequest by_itself = ask("\x01" "drift please", 4000);
  by_itself.sampling.ignore_eos = false;
  EXPECT_TRUE(run(by_itself).text.ends_with("#1"));
}

TEST(EchoEngine, HoldsTheMemoryItWasToldToAndTicksMeanwhile) {
  int ticks = 0;
  EchoOptions options{.step_time = 0, .memory_bytes = 200 << 20};
  auto engine = EchoEngine::create(options, [&](WorkerPhase) { ++ticks; });
  ASSERT_TRUE(engine.has_value());
  EXPECT_GE(ticks, 3);
  options.memory_bytes = 1ull << 60;
  auto refused = EchoEngine::create(options, [](WorkerPhase) {});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::kExhausted);
}

}  // namespace
}  // namespace facet
