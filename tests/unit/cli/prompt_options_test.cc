#include "broker/cli/prompt_options.h"

#include <gtest/gtest.h>

#include <CLI/CLI.hpp>

#include "common/protocol/limits.h"
#include "tests/unit/cli/temp_dir.h"

namespace facet {
namespace {

PromptOptions parse(const std::string& line) {
  CLI::App app;
  PromptOptions options;
  add_prompt_options(app, options);
  app.parse(line);
  return options;
}

TEST(PromptOptions, EverySamplingParameterArrives) {
  const auto request = make_request(
      parse(
          "-p what -s brief --max-tokens 5 --min-tokens 1 --temperature 0.5 --top-p 0.9 --top-k 3 "
          "--min-p 0.1 --repetition-penalty 1.2 --presence-penalty -1 --frequency-penalty 1 "
          "--seed 18446744073709551615 --stop a --stop b --ignore-eos --deadline 1.5"),
      "what", 2, Priority::kBatch);
  EXPECT_EQ(request.messages.size(), 2u);
  EXPECT_EQ(request.messages[0].role, "system");
  EXPECT_EQ(request.messages[0].content[0].text, "brief");
  ASSERT_EQ(request.messages[1].content.size(), 3u);
  EXPECT_EQ(request.messages[1].content[1].image, 1u);
  EXPECT_EQ(request.messages[1].content[2].text, "what");
  EXPECT_EQ(request.num_images, 2u);
  EXPECT_EQ(request.deadline_ms, 1500u);
  EXPECT_EQ(request.priority, Priority::kBatch);
  const SamplingParams& sampling = request.sampling;
  EXPECT_EQ(sampling.max_tokens, 5u);
  EXPECT_EQ(sampling.min_tokens, 1u);
  EXPECT_EQ(sampling.temperature, 0.5);
  EXPECT_EQ(sampling.top_p, 0.9);
  EXPECT_EQ(sampling.top_k, 3u);
  EXPECT_EQ(sampling.min_p, 0.1);
  EXPECT_EQ(sampling.repetition_penalty, 1.2);
  EXPECT_EQ(sampling.presence_penalty, -1.0);
  EXPECT_EQ(sampling.frequency_penalty, 1.0);
  EXPECT_EQ(sampling.seed, ~0ull);
  EXPECT_EQ(sampling.stop, (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(sampling.ignore_eos);
}

TEST(PromptOptions, WrongOnesAreRefused) {
  for (const char* line : {"--max-tokens -1", "--max-tokens many", "--deadline 0",
                           "--socket a --config b", "--model a --socket b", "--no-such"}) {
    EXPECT_THROW(parse(line), CLI::ParseError) << line;
  }
}

TEST(CheckRequest, NamesWhatTheDaemonWouldRefuse) {
  EXPECT_TRUE(check_request(parse("--top-p 0.5 --temperature 1"), "x", 1));
  for (const auto& [line, named] :
       std::vector<std::pair<std::string, std::string>>{{"--top-p 2", "top_p: 2 is not between"},
                                                        {"--top-p 0", "top_p"},
                                                        {"--temperature nan", "temperature"},
                                                        {"--temperature inf", "temperature"},
                                                        {"--min-p -1", "min_p"},
                                                        {"--deadline nan", "--deadline"}}) {
    const Status checked = check_request(parse(line), "x", 1);
    ASSERT_FALSE(checked) << line;
    EXPECT_NE(checked.error().message.find(named), std::string::npos) << checked.error().message;
  }
  EXPECT_FALSE(check_request({}, "\xff", 1));
}

TEST(ReadPrompt, FromWhereverItComes) {
  const TempDir dir;
  PromptOptions options;
  EXPECT_FALSE(read_prompt(options));
  options.prompt = "text\n";
  EXPECT_EQ(*read_prompt(options), "text\n");
  options.prompt_file = dir.file("p.txt", "line one\nline two\n");
  EXPECT_FALSE(read_prompt(options));
  options.prompt.clear();
  EXPECT_EQ(*read_prompt(options), "line one\nline two");
  options.prompt_file = dir.at("none");
  EXPECT_FALSE(read_prompt(options));
  options.prompt_file = dir.file("long.txt", std::string(kMaxMapBytes + 1, 'x'));
  EXPECT_NE(read_prompt(options).error().message.find("exceeds 4194304"), std::string::npos);
}

}  // namespace
}  // namespace facet
