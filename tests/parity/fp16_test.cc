// fp16: where it is refused, and what overflows in it. On a CPU all but the first are passed over.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <fstream>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "tests/parity/drive_engine.h"
#include "tests/parity/fixture.h"
#include "tests/parity/golden_cases.h"

namespace facet {
namespace {

using nlohmann::json;

constexpr std::uint32_t kTokens = 12;
const std::string kNotFinite = "the model computed a logit that is not a finite number";

json read_json(const std::string& path) {
  return json::parse(std::ifstream(path));
}

// Changes values of a bf16 tensor: new_value(row, column, old).
void edit(const std::string& directory, const std::string& tensor,
          const std::function<float(std::int64_t, std::int64_t, float)>& new_value) {
  const json index = read_json(directory + "/model.safetensors.index.json");
  std::fstream file(directory + "/" + index.at("weight_map").at(tensor).get<std::string>(),
                    std::ios::in | std::ios::out | std::ios::binary);
  std::uint64_t header_bytes = 0;
  file.read(reinterpret_cast<char*>(&header_bytes), sizeof header_bytes);
  std::string header(header_bytes, '\0');
  file.read(header.data(), static_cast<std::streamsize>(header_bytes));
  const json entry = json::parse(header).at(tensor);
  ASSERT_EQ(entry.at("dtype"), "BF16");
  const std::int64_t rows = entry.at("shape")[0], columns = entry.at("shape")[1];
  const auto at = static_cast<std::streamoff>(sizeof header_bytes + header_bytes +
                                              entry.at("data_offsets")[0].get<std::uint64_t>());
  std::vector<std::uint16_t> values(static_cast<std::size_t>(rows * columns));
  const auto bytes = static_cast<std::streamsize>(values.size() * 2);
  file.seekg(at);
  file.read(reinterpret_cast<char*>(values.data()), bytes);
  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t column = 0; column < columns; ++column) {
      std::uint16_t& bits = values[static_cast<std::size_t>(row * columns + column)];
      const float old = std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
      const float now = new_value(row, column, old);
      bits = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(now) >> 16);
    }
  file.seekp(at);
  file.write(reinterpret_cast<const char*>(values.data()), bytes);
  ASSERT_TRUE(file.flush());
}

StartOptions options_of(const std::string& directory, Dtype dtype) {
  StartOptions options = fixture_options(directory);
  options.dtype = dtype;
  return options;
}

bool has_gpu() {
  return !fixture_options("").worker.gpus.empty();
}

std::vector<DrivenAnswer> ask(Engine& engine, const std::vector<std::string>& texts) {
  ImageShelf shelf(parity_data());
  std::vector<SequenceSpec> specs;
  for (const std::string& text : texts) {
    GoldenPrompt prompt;
    prompt.messages = {{"user", {{ContentPart::Kind::kText, text, 0}}}};
    specs.push_back(spec_of(prompt, kTokens, shelf));
  }
  auto answers = drive(engine, std::move(specs));
  const Status conserved = engine.check_conservation();
  EXPECT_TRUE(conserved) << conserved.error().message;
  return answers;
}

void expect_overflow(const DrivenAnswer& answer) {
  ASSERT_EQ(answer.end.kind, SequenceEnd::Kind::kError) << answer.text;
  EXPECT_EQ(answer.end.message.find(kNotFinite), 0U) << answer.end.message;
  EXPECT_NE(answer.end.message.find("65504"), std::string::npos) << answer.end.message;
}

void expect_whole(const DrivenAnswer& answer) {
  EXPECT_EQ(answer.end.kind, SequenceEnd::Kind::kLength) << answer.end.message;
  EXPECT_EQ(answer.token_ids.size(), kTokens);
}

TEST(Fp16, IsForGpus) {
  StartOptions options = options_of(fixture_directory("--seed 1"), Dtype::kFp16);
  options.worker.gpus.clear();
  options.worker_index = 63;  // no host has a GPU for it
  const auto plan = plan_model(options);
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().code, Code::kUnsupported);
  EXPECT_EQ(plan.error().message,
            "model.dtype \"fp16\" is for GPUs: a CPU computes in \"fp32\" or \"bf16\"");
  const auto engine = start_model_engine(options, [](WorkerPhase) {});
  ASSERT_FALSE(engine);
  EXPECT_EQ(engine.error().message, plan.error().message);
}

TEST(Fp16, AWeightThatItDoesNotHoldIsNamed) {
  if (!has_gpu()) GTEST_SKIP() << "fp16 is for GPUs";
  const std::string& directory = fixture_directory("--seed 21");
  edit(directory, "model.layers.1.mlp.down_proj.weight",
       [](auto row, auto column, float old) { return row == 3 && column == 17 ? -70144 : old; });
  const auto engine = start_model_engine(options_of(directory, Dtype::kFp16), [](WorkerPhase) {});
  ASSERT_FALSE(engine);
  EXPECT_EQ(engine.error().code, Code::kUnsupported);
  EXPECT_EQ(engine.error().message,
            "tensor model.layers.1.mlp.down_proj.weight[3, 17] is -70144, which fp16 does not "
            "hold: its largest is 65504; model.dtype = \"bf16\" and \"fp32\" do");
  EXPECT_NE(start_fixture(options_of(directory, Dtype::kBf16)), nullptr);
}

// Sums beyond the range: of a layer, whose infinity becomes not a number, and of the head, where it
// stays one. bf16 has room for them.
TEST(Fp16, WhatOverflowsEndsTheRequest) {
  if (!has_gpu()) GTEST_SKIP() << "fp16 is for GPUs";
  const std::vector<std::string> texts{"one", "two words", "Is this a longer question or not?"};
  for (const std::string tensor : {"model.layers.0.mlp.down_proj.weight", "lm_head.weight"}) {
    const std::string& directory =
        fixture_directory(tensor == "lm_head.weight" ? "--seed 22" : "--seed 23");
    edit(directory, tensor, [](auto row, auto column, float old) {
      return row == 2 ? (column % 2 == 0 ? 60160.0F : -60160.0F) : old;
    });
    for (const Dtype dtype : {Dtype::kFp16, Dtype::kBf16}) {
      const auto engine = start_fixture(options_of(directory, dtype));
      ASSERT_NE(engine, nullptr);
      for (const DrivenAnswer& answer : ask(*engine, texts))
        dtype == Dtype::kFp16 ? expect_overflow(answer) : expect_whole(answer);
    }
  }
}

// One token's embedding is infinite: prompts with it end, in whatever company and whatever they
// leave behind; the others do not notice.
TEST(Fp16, OnlyWhoMeetsAnInfinityEnds) {
  if (!has_gpu()) GTEST_SKIP() << "fp16 is for GPUs";
  const std::string& directory = fixture_directory("--seed 24");
  const std::vector<std::string> good{"one", "two words", "a picture?", "What is on the left?"};
  std::vector<std::string> texts;
  const json vocab = read_json(directory + "/tokenizer.json").at("model").at("vocab");
  const auto clean = start_fixture(options_of(directory, Dtype::kFp16));
  ASSERT_NE(clean, nullptr);
  std::vector<std::int32_t> answered;
  for (const DrivenAnswer& answer : ask(*clean, good))
    answered.insert(answered.end(), answer.token_ids.begin(), answer.token_ids.end());
  // A character, and all tokens that have it: whatever a prompt's words are cut into.
  std::string word;
  std::set<std::int64_t> tokens;
  for (const char* candidate : {"~", "^", "@", "|", "`", "}"}) {
    tokens.clear();
    for (const auto& [text, id] : vocab.items())
      if (text.find(candidate) != std::string::npos) tokens.insert(id.get<std::int64_t>());
    word = candidate;
    if (std::ranges::none_of(answered, [&](std::int32_t id) { return tokens.contains(id); })) break;
    word.clear();
  }
  ASSERT_FALSE(word.empty());
  edit(directory, "model.embed_tokens.weight", [&tokens](auto row, auto, float old) {
    return tokens.contains(row) ? std::numeric_limits<float>::infinity() : old;
  });
  const auto engine = start_fixture(options_of(directory, Dtype::kFp16));
  ASSERT_NE(engine, nullptr);
  for (int round = 0; round < 3; ++round) {
    texts.clear();
    for (const std::string& text : good)
      texts.insert(texts.end(), {text, text + " " + word + " " + text});
    const auto answers = ask(*engine, texts);
    for (std::size_t i = 0; i < answers.size(); ++i)
      i % 2 == 0 ? expect_whole(answers[i]) : expect_overflow(answers[i]);
  }
}

}  // namespace
}  // namespace facet
