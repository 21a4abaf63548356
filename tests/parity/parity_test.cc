// The answer is the model's answer: greedy tokens of a random checkpoint with every feature of the
// family equal those of transformers 5.17.0 in fp32, in whatever batches and chunks they come.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "tests/parity/drive_engine.h"
#include "tests/parity/golden_cases.h"
#include "worker/checkpoint/qwen_config.h"
#include "worker/engine/qwen2_5_vl/input_processor.h"
#include "worker/model/model_start.h"
#include "worker/text/tokenizer.h"

namespace facet {
namespace {

const std::string kData = FACET_SOURCE_DIR "/tests/data";

// Made once per process by the script that the golden file was made with.
const std::string& fixture_directory() {
  static const std::string kDirectory = [] {
    std::string name = std::filesystem::temp_directory_path() / "facet-parity-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    const std::string command = std::string(FACET_PYTHON) +
                                " " FACET_SOURCE_DIR "/scripts/make_fixture_checkpoint.py " + name +
                                " > /dev/null";
    if (std::system(command.c_str()) != 0) std::abort();
    return name;
  }();
  return kDirectory;
}

class RemoveFixture : public ::testing::Environment {
 public:
  void TearDown() override { std::filesystem::remove_all(fixture_directory()); }
};
[[maybe_unused]] const auto* const kRemove =
    ::testing::AddGlobalTestEnvironment(new RemoveFixture);  // owned by GoogleTest

const std::vector<GoldenCase>& golden() {
  static const std::vector<GoldenCase> kCases =
      read_golden_cases(kData + "/qwen2_5_vl_golden.json");
  return kCases;
}

SequenceSpec spec_of(const GoldenCase& golden_case, ImageShelf& shelf) {
  SequenceSpec spec;
  spec.request.messages = golden_case.messages;
  spec.request.num_images = static_cast<std::uint32_t>(golden_case.images.size());
  spec.request.sampling.max_tokens = static_cast<std::uint32_t>(golden_case.output_ids.size());
  spec.request.sampling.repetition_penalty = golden_case.repetition_penalty;
  spec.request.sampling.ignore_eos = true;
  for (const std::string& image : golden_case.images) spec.images.push_back(shelf.view(image));
  return spec;
}

StartOptions fixture_options() {
  StartOptions options;
  options.directory = fixture_directory();
  options.dtype = Dtype::kFp32;
  options.worker.count = 1;
  options.worker.threads = 1;
  options.worker.credits = 64;
  options.budget_bytes = 2'000'000'000;
  return options;
}

std::unique_ptr<Engine> start(const StartOptions& options) {
  auto engine = start_model_engine(options, [](WorkerPhase) {});
  if (!engine) ADD_FAILURE() << engine.error().message;
  return engine ? std::move(*engine) : nullptr;
}

void expect_golden(const GoldenCase& expected, const DrivenAnswer& answer, std::size_t number) {
  EXPECT_EQ(answer.token_ids, expected.output_ids) << "case " << number;
  EXPECT_EQ(answer.text, expected.text) << "case " << number;
  EXPECT_EQ(answer.end.kind, SequenceEnd::Kind::kLength) << "case " << number;
  EXPECT_EQ(answer.end.prompt_tokens, expected.prompt_ids.size()) << "case " << number;
  EXPECT_EQ(answer.images_released, !expected.images.empty()) << "case " << number;
}

void expect_all_batched(Engine& engine) {
  ImageShelf shelf(kData);
  std::vector<SequenceSpec> specs;
  for (const GoldenCase& golden_case : golden()) specs.push_back(spec_of(golden_case, shelf));
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
  const auto engine = start(fixture_options());
  ASSERT_NE(engine, nullptr);
  expect_all_batched(*engine);
}

TEST(Parity, EachCaseAlone) {
  const auto engine = start(fixture_options());
  ASSERT_NE(engine, nullptr);
  ImageShelf shelf(kData);
  for (std::size_t i = 0; i < golden().size(); ++i) {
    std::vector<SequenceSpec> one{spec_of(golden()[i], shelf)};
    expect_golden(golden()[i], drive(*engine, std::move(one)).front(), i);
  }
}

// Chunks cut prompts anywhere, in the middle of images too; few lanes make sequences queue.
TEST(Parity, SmallChunksAndFewLanes) {
  StartOptions options = fixture_options();
  options.worker.max_num_batched_tokens = 53;
  options.worker.max_lanes = 5;
  const auto engine = start(options);
  ASSERT_NE(engine, nullptr);
  expect_all_batched(*engine);
}

// A pool that holds the longest sequence and little else: sequences are preempted and come back.
TEST(Parity, PreemptedSequencesGoOn) {
  StartOptions options = fixture_options();
  options.worker.max_model_len = 1024;
  const auto plan = plan_model(options);
  ASSERT_TRUE(plan) << plan.error().message;
  std::uint64_t kv_bytes = 0;
  for (const MemoryItem& item : plan->items)
    if (item.name == "KV pool") kv_bytes = item.bytes;
  options.budget_bytes = plan->used_bytes() - kv_bytes + 1100 * plan->kv_bytes_per_token;
  const auto engine = start(options);
  ASSERT_NE(engine, nullptr);
  ASSERT_LE(engine->kv_blocks_total() * 16, 1100u);
  expect_all_batched(*engine);
}

// Another attempt gets the tokens of an earlier one and goes on where they end.
TEST(Parity, CommittedTokensAreContinued) {
  const auto engine = start(fixture_options());
  ASSERT_NE(engine, nullptr);
  ImageShelf shelf(kData);
  for (const std::size_t number : {0u, 12u, 23u, 31u}) {
    const GoldenCase& expected = golden()[number];
    for (const std::ptrdiff_t held : {1, 17, 63, 64}) {
      SequenceSpec spec = spec_of(expected, shelf);
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

TEST(Parity, PromptTokensAndGrids) {
  const auto config = load_qwen_config(fixture_directory());
  ASSERT_TRUE(config) << config.error().message;
  const auto settings = load_qwen_image_settings(fixture_directory());
  ASSERT_TRUE(settings);
  const auto input = make_qwen_input_processor(fixture_directory(), *config, *settings, {4096, 16});
  ASSERT_TRUE(input) << input.error().message;
  ImageShelf shelf(kData);
  for (const GoldenCase& golden_case : golden()) {
    const SequenceSpec spec = spec_of(golden_case, shelf);
    const auto prompt = (*input)->build(spec.request, spec.images);
    ASSERT_TRUE(prompt) << prompt.error().message;
    EXPECT_EQ(prompt->token_ids, golden_case.prompt_ids);
  }
}

}  // namespace
}  // namespace facet
