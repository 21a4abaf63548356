// The answer is the model's answer: greedy tokens of a random checkpoint with every feature of the
// family equal those of transformers 5.17.0 in fp32, in whatever batches and chunks they come.
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "tests/parity/drive_engine.h"
#include "tests/parity/fixture.h"
#include "tests/parity/golden_cases.h"
#include "worker/checkpoint/qwen_config.h"
#include "worker/engine/qwen2_5_vl/input_processor.h"
#include "worker/text/tokenizer.h"

namespace facet {
namespace {

// As scripts/make_goldens.py makes it.
const std::string& plain_directory() {
  return fixture_directory("--seed 1");
}

const std::vector<GoldenCase>& golden() {
  static const std::vector<GoldenCase> kCases =
      read_golden_cases(parity_data() + "/qwen2_5_vl_golden.json");
  return kCases;
}

SequenceSpec whole_answer(const GoldenCase& golden_case, ImageShelf& shelf) {
  SequenceSpec spec = spec_of(golden_case, golden_case.output_ids.size(), shelf);
  spec.request.sampling.repetition_penalty = golden_case.repetition_penalty;
  return spec;
}

void expect_golden(const GoldenCase& expected, const DrivenAnswer& answer, std::size_t number) {
  EXPECT_EQ(answer.token_ids, expected.output_ids) << "case " << number;
  EXPECT_EQ(answer.text, expected.text) << "case " << number;
  EXPECT_EQ(answer.end.kind, SequenceEnd::Kind::kLength) << "case " << number;
  EXPECT_EQ(answer.end.prompt_tokens, expected.prompt_ids.size()) << "case " << number;
  EXPECT_EQ(answer.images_released, !expected.images.empty()) << "case " << number;
}

void expect_all_batched(Engine& engine) {
  ImageShelf shelf(parity_data());
  std::vector<SequenceSpec> specs;
  for (const GoldenCase& golden_case : golden()) specs.push_back(whole_answer(golden_case, shelf));
  const auto answers = drive(engine, std::move(specs));
  for (std::size_t i = 0; i < answers.size(); ++i) expect_golden(golden()[i], answers[i], i);
  const Status conserved = engine.check_conservation();
  EXPECT_TRUE(conserved) << conserved.error().message;
  EXPECT_EQ(engine.kv_blocks_free(), engine.kv_blocks_total());
}

TEST(Parity, GoldenFileIsWhole) {
  ASSERT_GE(golden().size(), 30u);
  for (const GoldenCase& golden_case : golden()) EXPECT_EQ(golden_case.output_ids.size(), 64u);
}

TEST(Parity, AllCasesInOneBatch) {
  const auto engine = start_fixture(fixture_options(plain_directory()));
  ASSERT_NE(engine, nullptr);
  expect_all_batched(*engine);
}

// Large steps are shared by rows, smaller ones by columns; which thread computes what changes
// nothing.
TEST(Parity, StepsSharedByThreeThreads) {
  StartOptions options = fixture_options(plain_directory());
  options.worker.threads = 3;
  const auto engine = start_fixture(options);
  ASSERT_NE(engine, nullptr);
  expect_all_batched(*engine);
}

TEST(Parity, EachCaseAlone) {
  const auto engine = start_fixture(fixture_options(plain_directory()));
  ASSERT_NE(engine, nullptr);
  ImageShelf shelf(parity_data());
  for (std::size_t i = 0; i < golden().size(); ++i) {
    std::vector<SequenceSpec> one{whole_answer(golden()[i], shelf)};
    expect_golden(golden()[i], drive(*engine, std::move(one)).front(), i);
  }
}

// Chunks cut prompts anywhere, in the middle of images too; few lanes make sequences queue.
TEST(Parity, SmallChunksAndFewLanes) {
  StartOptions options = fixture_options(plain_directory());
  options.worker.max_num_batched_tokens = 53;
  options.worker.max_lanes = 5;
  const auto engine = start_fixture(options);
  ASSERT_NE(engine, nullptr);
  expect_all_batched(*engine);
}

// A pool that holds the longest sequence and little else: sequences are preempted and come back.
TEST(Parity, PreemptedSequencesGoOn) {
  StartOptions options = fixture_options(plain_directory());
  options.worker.max_model_len = 1024;
  limit_kv_tokens(options, 1100);
  const auto engine = start_fixture(options);
  ASSERT_NE(engine, nullptr);
  ASSERT_LE(engine->kv_blocks_total() * 16, 1100u);
  expect_all_batched(*engine);
}

// Another attempt gets the tokens of an earlier one and goes on where they end.
TEST(Parity, CommittedTokensAreContinued) {
  const auto engine = start_fixture(fixture_options(plain_directory()));
  ASSERT_NE(engine, nullptr);
  ImageShelf shelf(parity_data());
  for (const std::size_t number : {0u, 12u, 23u, 31u}) {
    const GoldenCase& expected = golden()[number];
    for (const std::ptrdiff_t held : {1, 17, 63, 64}) {
      SequenceSpec spec = whole_answer(expected, shelf);
      const auto middle = expected.output_ids.begin() + held;
      spec.committed.assign(expected.output_ids.begin(), middle);
      spec.id = RequestId::random();
      ASSERT_TRUE(engine->add(spec));
      std::vector<std::int32_t> rest;
      while (engine->has_work()) {
        const auto updates = engine->step();
        ASSERT_TRUE(updates) << updates.error().message;
        for (const SequenceUpdate& update : *updates) {
          EXPECT_EQ(update.index, held + rest.size());
          rest.insert(rest.end(), update.token_ids.begin(), update.token_ids.end());
        }
      }
      EXPECT_EQ(rest, std::vector<std::int32_t>(middle, expected.output_ids.end()));
    }
  }
}

TEST(Parity, PromptTokens) {
  const auto config = load_qwen_config(plain_directory());
  ASSERT_TRUE(config) << config.error().message;
  const auto settings = load_qwen_image_settings(plain_directory());
  ASSERT_TRUE(settings);
  const auto input = make_qwen_input_processor(plain_directory(), *config, *settings, {4096, 16});
  ASSERT_TRUE(input) << input.error().message;
  ImageShelf shelf(parity_data());
  for (const GoldenCase& golden_case : golden()) {
    const SequenceSpec spec = whole_answer(golden_case, shelf);
    const auto prompt = (*input)->build(spec.request, spec.images);
    ASSERT_TRUE(prompt) << prompt.error().message;
    EXPECT_EQ(prompt->token_ids, golden_case.prompt_ids);
  }
}

}  // namespace
}  // namespace facet
