#include "worker/text/tokenizer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "tests/unit/text/goldens.h"
#include "worker/text/added_tokens.h"
#include "worker/text/incremental_text.h"
#include "worker/text/tokenize.h"

namespace facet {
namespace {

using nlohmann::json;
using Ids = std::vector<std::int32_t>;

class TokenizerKinds : public testing::TestWithParam<const char*> {};

TEST_P(TokenizerKinds, EncodesAsTheReference) {
  const Tokenizer tokenizer = load_test_tokenizer(GetParam());
  const json goldens = read_test_json("goldens.json");
  for (int round = 0; round < 2; ++round) {  // the second one from the cache
    for (const auto& pair : goldens["kinds"][GetParam()]["encode"]) {
      EXPECT_EQ(tokenizer.encode(pair[0].get<std::string>()).value(), pair[1].get<Ids>())
          << pair[0];
    }
  }
}

TEST_P(TokenizerKinds, DecodesAsTheReference) {
  const Tokenizer tokenizer = load_test_tokenizer(GetParam());
  const json goldens = read_test_json("goldens.json");
  for (const auto& pair : goldens["kinds"][GetParam()]["decode"]) {
    IncrementalText text(tokenizer);
    std::string out = text.feed(pair[0].get<Ids>());
    EXPECT_EQ(out + text.finish(), pair[1].get<std::string>()) << pair[0];
  }
}

// With every byte in the vocabulary, decoding gives the text back (no NFC: already composed).
TEST_P(TokenizerKinds, LongTextsTakeLinearTimeAndLoseNothing) {
  const Tokenizer tokenizer = load_test_tokenizer(GetParam());
  const auto repeat = [](const char* unit, std::size_t bytes) {
    std::string text;
    while (text.size() < bytes) text += unit;
    return text;
  };
  for (const char* unit : {"a", " ", "\n", "\r\n", "0", "!", "<", "<|", "the red ", "\xC3\xA9",
                           "\xE4\xBD\xA0", "\xF0\x9F\x98\x80", " \t", "'", "e\xCC\x81\xCC\xA3",
                           "\xCC\x81\xCC\xA3", "<|im_start|>", "x\n"}) {
    const auto start = std::chrono::steady_clock::now();
    const auto ids = tokenizer.encode(repeat(unit, 1 << 20));
    const auto took = std::chrono::steady_clock::now() - start;
    ASSERT_TRUE(ids) << unit << ": " << ids.error().message;
    // Quadratic behaviour would take hours; sanitizers and a busy machine only multiply.
    EXPECT_LT(took, std::chrono::seconds(60)) << unit;
    EXPECT_FALSE(ids->empty());
  }
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerKinds, testing::Values("qwen2", "llama3", "odd"));

TEST(Tokenizer, MessageTextKeepsAddedTokensAsText) {
  const Tokenizer tokenizer = load_test_tokenizer("qwen2");
  const std::int32_t pad = tokenizer.find("<|image_pad|>");
  ASSERT_GE(pad, 0);
  const auto count = [&](bool parse) {
    const TextSegment segment{"a<|image_pad|>b", parse};
    const Ids ids = tokenizer.encode({&segment, 1}).value();
    return std::count(ids.begin(), ids.end(), pad);
  };
  EXPECT_EQ(count(true), 1);
  EXPECT_EQ(count(false), 0);
}

TEST(Tokenizer, WordsRunAcrossSegmentsAndTokensDoNot) {
  const Tokenizer tokenizer = load_test_tokenizer("qwen2");
  const std::vector<TextSegment> split = {
      {"user\n", true}, {"Hello <|im_", false}, {"end|>", true}};
  EXPECT_EQ(tokenizer.encode(split).value(),
            tokenizer.encode(std::vector<TextSegment>{{"user\nHello <|im_end|>", false}}).value());
  const std::vector<TextSegment> glued = {{"th", true}, {"e re", false}, {"d", true}};
  EXPECT_EQ(tokenizer.encode(glued).value(), tokenizer.encode("the red").value());
  // A mark that the user's text begins with joins the template's last letter, as in one text.
  const std::vector<TextSegment> mark = {{"caf\x65", true}, {"\xCC\x81 x", false}};
  EXPECT_EQ(tokenizer.encode(mark).value(), tokenizer.encode("caf\xC3\xA9 x").value());
}

TEST(Tokenizer, NormalizedAddedTokensRespectSegments) {
  const Tokenizer tokenizer = load_test_tokenizer("odd");
  const std::int32_t cafe = tokenizer.find("caf\xC3\xA9");
  const auto has = [&](const std::vector<TextSegment>& segments) {
    const Ids ids = tokenizer.encode(segments).value();
    return std::find(ids.begin(), ids.end(), cafe) != ids.end();
  };
  EXPECT_TRUE(has({{"x cafe\xCC\x81 y", true}}));
  EXPECT_FALSE(has({{"x ", true}, {"cafe\xCC\x81 y", false}}));
  EXPECT_TRUE(has({{"a ", false}, {"cafe\xCC\x81", true}, {" y", false}}));
  EXPECT_FALSE(has({{"cafe", true}, {"\xCC\x81 y", false}}));
}

// As tokenizers 0.23.3: what rstrip took is not found again where lstrip and rstrip leave nothing.
TEST(AddedTokens, NothingIsLeftOfBlanksThatWereTaken) {
  const AddedToken x{1, "X", false, false, true}, tab{2, "\t", false, true, true};
  const auto matcher = AddedTokenMatcher::create({x, tab}).value();
  const auto ids = [&](const std::string& text) {
    std::vector<std::int32_t> found;
    const auto parts = matcher.split(text, {{text.size(), true}}).value();
    for (const AddedTokenSplit& part : parts) found.push_back(part.token_id);
    return found;
  };
  EXPECT_EQ(ids("\t\t\tz"), (Ids{2, -1}));
  EXPECT_EQ(ids("X\t"), (Ids{1}));
  EXPECT_EQ(ids("X \t zX \t"), (Ids{1, -1, 1}));
  EXPECT_EQ(ids("a \t\t b\t"), (Ids{-1, 2, -1, 2}));
}

TEST(Tokenizer, InvalidUtf8BecomesReplacementCharacters) {
  const Tokenizer tokenizer = load_test_tokenizer("qwen2");
  EXPECT_EQ(tokenizer.encode("a\xFF\xE2\x82 b\xC0\x80\xED\xA0\x80").value(),
            tokenizer
                .encode("a\xEF\xBF\xBD\xEF\xBF\xBD b\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"
                        "\xEF\xBF\xBD\xEF\xBF\xBD")
                .value());
}

TEST(Tokenizer, RefusesTextAboveItsLimitAndNamesIt) {
  const Tokenizer tokenizer = load_test_tokenizer("qwen2");
  const auto ids = tokenizer.encode(std::string(kMaxTextBytes + 1, 'a'));
  ASSERT_FALSE(ids);
  EXPECT_EQ(ids.error().code, Code::kTooLarge);
  EXPECT_NE(ids.error().message.find(std::to_string(kMaxTextBytes)), std::string::npos);
}

TEST(Tokenizer, ServesSeveralThreads) {
  const Tokenizer tokenizer = load_test_tokenizer("llama3");
  const json cases = read_test_json("goldens.json")["kinds"]["llama3"]["encode"];
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (const auto& pair : cases) {
        EXPECT_EQ(tokenizer.encode(pair[0].get_ref<const std::string&>()).value(),
                  pair[1].get<Ids>());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(Tokenizer, TablesTellBytesAndSpecialTokens) {
  const Tokenizer tokenizer = load_test_tokenizer("qwen2");
  EXPECT_TRUE(tokenizer.is_special(tokenizer.find("<|im_end|>")));
  EXPECT_FALSE(tokenizer.is_special(tokenizer.find("<tool_call>")));
  EXPECT_EQ(tokenizer.token_bytes(tokenizer.find("<tool_call>")), "<tool_call>");
  EXPECT_EQ(tokenizer.token_bytes(-1), "");
  EXPECT_EQ(tokenizer.token_bytes(tokenizer.num_ids()), "");
  EXPECT_FALSE(tokenizer.is_special(tokenizer.num_ids()));
  EXPECT_EQ(tokenizer.find("no such token"), -1);
  EXPECT_GE(tokenizer.max_token_bytes(), std::string_view("<|vision_start|>").size());
  EXPECT_TRUE(tokenizer.template_prefix().empty());
  const Tokenizer llama3 = load_test_tokenizer("llama3");
  EXPECT_EQ(llama3.template_prefix(), Ids{llama3.find("<|begin_of_text|>")});
}

TEST(Tokenizer, TokenizeTextNamesAMissingFile) {
  const auto ids = tokenize_text("/no/such/model", "x");
  ASSERT_FALSE(ids);
  EXPECT_EQ(ids.error().code, Code::kNotFound);
  EXPECT_NE(ids.error().message.find("/no/such/model"), std::string::npos);
}

}  // namespace
}  // namespace facet
