#include "worker/text/incremental_text.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/unit/text/goldens.h"
#include "worker/text/utf8.h"

namespace facet {
namespace {

using Ids = std::vector<std::int32_t>;

class IncrementalTextTest : public testing::Test {
 protected:
  Ids bytes(std::string_view text) {  // one token for each byte
    Ids ids;
    for (const char byte : text) {
      for (std::int32_t id = 0; id < tokenizer_.num_ids(); ++id) {
        if (tokenizer_.token_bytes(id) == std::string_view(&byte, 1)) {
          ids.push_back(id);
          break;
        }
      }
    }
    return ids;
  }

  Tokenizer tokenizer_ = load_test_tokenizer("qwen2");
};

TEST_F(IncrementalTextTest, NeverEmitsPartOfACharacter) {
  IncrementalText text(tokenizer_);
  std::vector<std::string> steps;
  for (const std::int32_t id : bytes("a\xF0\x9F\x98\x80" "b")) steps.push_back(text.feed(id));
  EXPECT_EQ(steps, (std::vector<std::string>{"a", "", "", "", "\xF0\x9F\x98\x80", "b"}));
  EXPECT_EQ(text.finish(), "");
}

TEST_F(IncrementalTextTest, FinishReplacesAHeldTailOnce) {
  IncrementalText text(tokenizer_);
  EXPECT_EQ(text.feed(bytes("x\xF0\x9F\x98")), "x");
  EXPECT_EQ(text.finish(), kReplacementCharacter);
  EXPECT_EQ(text.finish(), "");
}

TEST_F(IncrementalTextTest, SpecialAndUnknownTokensAddNothing) {
  IncrementalText text(tokenizer_);
  const std::int32_t end = tokenizer_.find("<|im_end|>");
  EXPECT_EQ(text.feed(Ids{end, -1, 1 << 30, end}), "");
  EXPECT_EQ(text.feed(tokenizer_.find("<tool_call>")), "<tool_call>");
}

// Random tokens, cut at random: always valid UTF-8, and the same text as in one go.
TEST_F(IncrementalTextTest, IsAFunctionOfTheTokensAlone) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 2000; ++round) {
    Ids ids(random() % 40);
    for (auto& id : ids) {
      id = static_cast<std::int32_t>(random() % static_cast<unsigned>(tokenizer_.num_ids() + 2));
    }
    std::string all_bytes;
    for (const std::int32_t id : ids) {
      if (!tokenizer_.is_special(id)) all_bytes += tokenizer_.token_bytes(id);
    }
    IncrementalText text(tokenizer_);
    std::string joined;
    for (std::size_t at = 0; at < ids.size();) {
      const std::size_t count = std::min<std::size_t>(1 + random() % 5, ids.size() - at);
      const std::string piece = text.feed(std::span(ids).subspan(at, count));
      ASSERT_TRUE(is_valid_utf8(piece));
      joined += piece;
      at += count;
    }
    ASSERT_EQ(joined + text.finish(), replace_invalid_utf8(all_bytes));
  }
}

}  // namespace
}  // namespace facet
