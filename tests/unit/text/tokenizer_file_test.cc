// Files that differ from a good one in one place: each difference is refused by its name.
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "tests/unit/text/goldens.h"

namespace facet {
namespace {

using nlohmann::json;

struct Change {
  const char* named;  // must stand in the message
  std::function<void(json&)> apply;
};

const Change kChanges[] = {
    {"surprise", [](json& j) { j["surprise"] = 1; }},
    {"BERT", [](json& j) { j["normalizer"] = {{"type", "BERT"}}; }},
    {"Lowercase",
     [](json& j) {
       j["normalizer"] = {{"type", "Sequence"}, {"normalizers", {{{"type", "Lowercase"}}}}};
     }},
    {"Whitespace", [](json& j) { j["pre_tokenizer"] = {{"type", "Whitespace"}}; }},
    {"ByteLevel", [](json& j) { j["pre_tokenizer"] = nullptr; }},
    {"ByteLevel", [](json& j) { j["pre_tokenizer"]["pretokenizers"].erase(1); }},
    {"Sideways", [](json& j) { j["pre_tokenizer"]["pretokenizers"][0]["behavior"] = "Sideways"; }},
    {"\\w",
     [](json& j) { j["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {{"Regex", "\\w+"}}; }},
    {"BertProcessing", [](json& j) { j["post_processor"] = {{"type", "BertProcessing"}}; }},
    {"WordPiece", [](json& j) { j["decoder"] = {{"type", "WordPiece"}}; }},
    {"decoder", [](json& j) { j.erase("decoder"); }},
    {"Unigram", [](json& j) { j["model"]["type"] = "Unigram"; }},
    {"dropout", [](json& j) { j["model"]["dropout"] = 0.1; }},
    {"byte_fallback", [](json& j) { j["model"]["byte_fallback"] = true; }},
    {"continuing_subword_prefix",
     [](json& j) { j["model"]["continuing_subword_prefix"] = "##"; }},
    {"temperature", [](json& j) { j["model"]["temperature"] = 1; }},
    {"zzq", [](json& j) { j["model"]["merges"].push_back({"zzq", "a"}); }},
    {"a b c", [](json& j) { j["model"]["merges"].push_back("a b c"); }},
    {"unk_token", [](json& j) {
       j["model"]["unk_token"] = "<unk>";
       j["model"]["merges"] = json::array();
       j["model"]["vocab"].erase("!");
     }},
    {"-5", [](json& j) { j["model"]["vocab"]["new"] = -5; }},
    {"fuzzy", [](json& j) { j["added_tokens"][0]["fuzzy"] = true; }},
    {"<|endoftext|>", [](json& j) { j["added_tokens"][0]["id"] = 5; }},
    {"lstrip", [](json& j) { j["added_tokens"][0]["lstrip"] = "yes"; }},
    {"model", [](json& j) { j.erase("model"); }},
};

TEST(TokenizerFile, RefusesWhatItDoesNotKnowByName) {
  const json good = read_test_json("qwen2.json");
  ASSERT_TRUE(Tokenizer::from_json(good));
  for (const Change& change : kChanges) {
    json changed = good;
    change.apply(changed);
    const auto tokenizer = Tokenizer::from_json(changed);
    ASSERT_FALSE(tokenizer) << change.named;
    EXPECT_NE(tokenizer.error().message.find(change.named), std::string::npos)
        << change.named << ": " << tokenizer.error().message;
  }
}

TEST(TokenizerFile, TakesBothSpellingsOfMerges) {
  json file = read_test_json("qwen2.json");
  const auto before = Tokenizer::from_json(file)->encode("the red triangle's 42").value();
  for (auto& merge : file["model"]["merges"]) {
    merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  }
  EXPECT_EQ(Tokenizer::from_json(file)->encode("the red triangle's 42").value(), before);
}

TEST(TokenizerFile, BytesWithoutATokenAreLeftOut) {
  json file = read_test_json("qwen2.json");
  file["model"]["merges"] = json::array();
  file["model"]["vocab"].erase("!");
  for (auto& token : file["added_tokens"]) token["id"] = token["id"].get<int>() - 1;
  const auto tokenizer = Tokenizer::from_json(file);
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_EQ(tokenizer->encode("a!b").value(), tokenizer->encode("ab").value());
}

class ModelDirectory : public testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/facet_text_XXXXXX";
    dir_ = mkdtemp(pattern);
    std::filesystem::copy_file(text_data("qwen2.json"), dir_ / "tokenizer.json");
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  void write(const char* name, const json& value) { std::ofstream(dir_ / name) << value; }

  std::filesystem::path dir_;
};

TEST_F(ModelDirectory, TokenizerConfigMustAgree) {
  EXPECT_TRUE(Tokenizer::load(dir_));
  const json added = read_test_json("qwen2.json")["added_tokens"];
  json entry = added[0];
  entry.erase("id");
  const std::string id = std::to_string(added[0]["id"].get<int>());
  write("tokenizer_config.json", {{"added_tokens_decoder", {{id, entry}}}});
  EXPECT_TRUE(Tokenizer::load(dir_));
  entry["lstrip"] = true;
  write("tokenizer_config.json", {{"added_tokens_decoder", {{id, entry}}}});
  EXPECT_FALSE(Tokenizer::load(dir_));
  entry["content"] = "<|unheard_of|>";
  write("tokenizer_config.json", {{"added_tokens_decoder", {{id, entry}}}});
  EXPECT_NE(Tokenizer::load(dir_).error().message.find("<|unheard_of|>"), std::string::npos);
  write("tokenizer_config.json", {{"add_prefix_space", true}});
  EXPECT_NE(Tokenizer::load(dir_).error().message.find("add_prefix_space"), std::string::npos);
}

TEST_F(ModelDirectory, DamagedJsonIsCorrupt) {
  std::ofstream(dir_ / "tokenizer.json") << "{\"model\": ";
  EXPECT_EQ(Tokenizer::load(dir_).error().code, Code::kCorrupt);
}

}  // namespace
}  // namespace facet
