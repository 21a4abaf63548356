#include "broker/cli/batch_row.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "broker/cli/csv.h"

namespace facet {
namespace {

std::shared_ptr<const std::string> bytes(const char* text) {
  return std::make_shared<const std::string>(text);
}

GenerateRequest request(const std::string& prompt) {
  GenerateRequest made;
  made.messages = {Message{"user", {ContentPart{ContentPart::Kind::kText, prompt, 0}}}};
  return made;
}

TEST(RowKey, DependsOnEverythingThatTheAnswerDependsOn) {
  EXPECT_EQ(content_hash({bytes("a")}).size(), 32u);
  EXPECT_NE(content_hash({bytes("a")}), content_hash({bytes("b")}));
  EXPECT_NE(content_hash({bytes("ab"), bytes("c")}), content_hash({bytes("a"), bytes("bc")}));
  EXPECT_NE(content_hash({bytes("a"), bytes("b")}), content_hash({bytes("b"), bytes("a")}));
  const std::string plain = settings_hash(request("p"), "m");
  EXPECT_NE(plain, settings_hash(request("q"), "m"));
  EXPECT_NE(plain, settings_hash(request("p"), "n"));
  GenerateRequest other = request("p");
  other.sampling.seed = 1;
  EXPECT_NE(plain, settings_hash(other, "m"));
  other = request("p");
  other.deadline_ms = 5;
  EXPECT_EQ(plain, settings_hash(other, "m"));
}

struct Sample {
  Sample() {
    item.index = 7;
    item.image = "\"a, \\\"b\\\".png\"";
    item.prompt = "what\nis?";
    answer.text = "two\nlines, \"quoted\" é";
    answer.token_ids = {1, 2};
    answer.done.usage = Usage{10, 4, 2, 8};
    answer.done.attempts = 1;
    row = {&item, {"c0ffee", "5e77"}, "demo", &answer};
  }
  BatchItem item;
  Answer answer;
  BatchRow row;
};

TEST(JsonlRow, HoldsTheAnswerOnOneLine) {
  Sample sample;
  const std::string line = format_row(sample.row, RowFormat::kJsonl);
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  const auto json = nlohmann::json::parse(line);
  EXPECT_EQ(json["index"], 7);
  EXPECT_EQ(json["image"], "a, \"b\".png");
  EXPECT_EQ(json["question"], "what\nis?");
  EXPECT_EQ(json["key"], "c0ffee-5e77");
  EXPECT_EQ(json["model"], "demo");
  EXPECT_EQ(json["text"], sample.answer.text);
  EXPECT_EQ(json["token_ids"], (std::vector<int>{1, 2}));
  EXPECT_EQ(json["finish_reason"], "stop");
  EXPECT_EQ(json["usage"]["image_tokens"], 4);
  EXPECT_EQ(json["attempts"], 1);
  EXPECT_FALSE(json.contains("error"));
  const auto past = parse_jsonl_row(line);
  ASSERT_TRUE(past);
  EXPECT_EQ(past->image, sample.item.image);
  EXPECT_EQ(past->key, sample.row.key);
  EXPECT_FALSE(past->has_failed);
}

TEST(JsonlRow, LogprobsStandByTheirTokens) {
  Sample sample;
  EXPECT_FALSE(
      nlohmann::json::parse(format_row(sample.row, RowFormat::kJsonl)).contains("logprobs"));
  sample.answer.logprobs = {{1, -0.5F}, {3, -0.25F}, {2, -1}, {2, -1}};
  const auto json = nlohmann::json::parse(format_row(sample.row, RowFormat::kJsonl));
  const auto expected = nlohmann::json::parse(
      R"([{"token":1,"logprob":-0.5,"top":[{"token":3,"logprob":-0.25}]},
          {"token":2,"logprob":-1.0,"top":[{"token":2,"logprob":-1.0}]}])");
  EXPECT_EQ(json["logprobs"], expected);
  EXPECT_EQ(json["usage"]["cached_tokens"], 8);
}

TEST(JsonlRow, AFailureSaysWhy) {
  Sample sample;
  sample.answer.error.emplace(Code::kTooLarge, "needs 9, has 8");
  const std::string line = format_row(sample.row, RowFormat::kJsonl);
  const auto json = nlohmann::json::parse(line);
  EXPECT_EQ(json["error"], "needs 9, has 8");
  EXPECT_EQ(json["code"], "too_large");
  EXPECT_EQ(json["finish_reason"], "error");
  EXPECT_TRUE(parse_jsonl_row(line)->has_failed);
}

TEST(CsvRow, ComesBackAsItWas) {
  Sample sample;
  for (const char* image : {"\"a.png\"", "\"a, \\\"b\\\".png\"", "[\"a\",\"b\"]", "[]"}) {
    sample.item.image = image;
    const std::string line = format_row(sample.row, RowFormat::kCsv);
    const CsvRecord record = parse_csv_record(line);
    EXPECT_EQ(record.bytes, line.size());
    const auto past = parse_csv_row(record.fields);
    ASSERT_TRUE(past);
    EXPECT_EQ(past->image, image);
    EXPECT_EQ(past->key, sample.row.key);
    EXPECT_FALSE(past->has_failed);
  }
  EXPECT_EQ(parse_csv_record(std::string(csv_header())).fields.size(),
            parse_csv_record(format_row(sample.row, RowFormat::kCsv)).fields.size());
  sample.answer.error.emplace(Code::kIo, "x");
  EXPECT_TRUE(
      parse_csv_row(parse_csv_record(format_row(sample.row, RowFormat::kCsv)).fields)->has_failed);
}

TEST(PastRow, StrangersAreNotRows) {
  for (const char* line : {"", "{}", "[1]", "text", "{\"image\":1,\"key\":2}",
                           "{\"image\":\"a\",\"key\":\"nodash\"}"}) {
    EXPECT_FALSE(parse_jsonl_row(line)) << line;
  }
  EXPECT_FALSE(parse_csv_row({"1", "2"}));
}

TEST(TornRow, EveryCutOfARowIsRecognized) {
  Sample sample;
  const std::string jsonl = format_row(sample.row, RowFormat::kJsonl);
  for (std::size_t cut = 1; cut < jsonl.size(); ++cut) {
    EXPECT_TRUE(is_torn_row(jsonl.substr(0, cut), RowFormat::kJsonl, true)) << cut;
  }
  const std::string csv = format_row(sample.row, RowFormat::kCsv);
  for (std::size_t cut = 1; cut < csv.size(); ++cut) {
    EXPECT_TRUE(is_torn_row(csv.substr(0, cut), RowFormat::kCsv, false)) << cut;
  }
  EXPECT_TRUE(is_torn_row(csv_header().substr(0, 9), RowFormat::kCsv, true));
  EXPECT_FALSE(is_torn_row("\xff\xd8\xff", RowFormat::kJsonl, true));
  EXPECT_FALSE(is_torn_row("name,age", RowFormat::kCsv, true));
}

}  // namespace
}  // namespace facet
