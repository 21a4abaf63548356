#include "worker/text/pre_tokenizer.h"

#include <gtest/gtest.h>

#include "worker/text/regex_translation.h"

namespace facet {
namespace {

std::vector<std::string> pieces(std::string_view text, const char* pattern, SplitBehavior behavior,
                                bool invert = false) {
  const auto matches = Regex::compile(pattern)->find_all(text).value();
  std::vector<std::string> out;
  for (const ByteRange range : split_pieces(text.size(), matches, behavior, invert)) {
    out.emplace_back(text.substr(range.begin, range.end - range.begin));
  }
  return out;
}

using List = std::vector<std::string>;

// Expected values: the examples of `tokenizers`' own description of SplitDelimiterBehavior.
TEST(PreTokenizer, BehaviorsOfSplit) {
  const char* text = "the-final--countdown";
  EXPECT_EQ(pieces(text, "-", SplitBehavior::kRemoved), (List{"the", "final", "countdown"}));
  EXPECT_EQ(pieces(text, "-", SplitBehavior::kIsolated),
            (List{"the", "-", "final", "-", "-", "countdown"}));
  EXPECT_EQ(pieces(text, "-", SplitBehavior::kMergedWithPrevious),
            (List{"the-", "final-", "-", "countdown"}));
  EXPECT_EQ(pieces(text, "-", SplitBehavior::kMergedWithNext),
            (List{"the", "-final", "-", "-countdown"}));
  EXPECT_EQ(pieces(text, "-", SplitBehavior::kContiguous),
            (List{"the", "-", "final", "--", "countdown"}));
  EXPECT_EQ(pieces(text, "[a-z]+", SplitBehavior::kRemoved, true),
            (List{"the", "final", "countdown"}));
  EXPECT_EQ(pieces("", "-", SplitBehavior::kIsolated), List{});
}

TEST(Regex, EmptyMatchesAdvanceByCharacters) {
  EXPECT_EQ(Regex::compile("x*")->find_all("\xC3\xA9x").value(),
            (std::vector<ByteRange>{{0, 0}, {2, 3}}));
  EXPECT_EQ(Regex::compile("x*")->find_all("").value(), (std::vector<ByteRange>{{0, 0}}));
}

TEST(Regex, RunawayBacktrackingIsAnError) {
  const auto matches = Regex::compile("(?:a|aa|aaa)*[bc]")->find_all(std::string(200, 'a'));
  ASSERT_FALSE(matches);
  EXPECT_EQ(matches.error().code, Code::kTooLarge);
}

TEST(Regex, RefusesWhatTheEnginesReadDifferently) {
  for (const char* pattern : {"^a", "a$", "\\w+", "\\b", "\\h", "(?i)a", "(?<n>a)", "(?<=a)b",
                              "a{,3}", "a{2}+", "[[:alpha:]]", "[a&&b]", "\\p{Greek}", "[^\\S]",
                              "(?i:\\p{Lu})", "\\x41", "\\R", "\\", "[]a]"}) {
    const auto translated = translate_oniguruma(pattern);
    EXPECT_FALSE(translated) << pattern;
    if (!translated) {
      EXPECT_EQ(translated.error().code, Code::kUnsupported);
    }
  }
  EXPECT_FALSE(Regex::compile("(a"));
}

}  // namespace
}  // namespace facet
