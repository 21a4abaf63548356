#include "worker/text/stop_strings.h"

#include <gtest/gtest.h>

#include <random>

namespace facet {
namespace {

TEST(StopStrings, HoldsBackWhatMayBeAStop) {
  StopStrings stops({"END"});
  EXPECT_EQ(stops.feed("abE"), "ab");
  EXPECT_EQ(stops.feed("N"), "");
  EXPECT_EQ(stops.feed("x"), "ENx");
  EXPECT_EQ(stops.feed("EEN"), "E");
  EXPECT_EQ(stops.feed("D tail"), "");
  EXPECT_TRUE(stops.stopped());
  EXPECT_EQ(stops.feed("more"), "");
  EXPECT_EQ(stops.finish(), "");
}

TEST(StopStrings, FinishReleasesTheTail) {
  StopStrings stops({"END"});
  EXPECT_EQ(stops.feed("xEN"), "x");
  EXPECT_EQ(stops.feed(""), "");
  EXPECT_EQ(stops.finish(), "EN");
  EXPECT_FALSE(stops.stopped());
}

TEST(StopStrings, FirstToBeCompleteWinsAndTheLongestOfThose) {
  EXPECT_EQ(StopStrings({"bcd", "abcde"}).feed("xabcdef"), "xa");
  EXPECT_EQ(StopStrings({"cd", "abcd"}).feed("xabcdef"), "x");
  EXPECT_EQ(StopStrings({"aab"}).feed("aaaab."), "aa");
}

TEST(StopStrings, NoneOrEmptyOnesNeverStop) {
  StopStrings stops({"", ""});
  EXPECT_EQ(stops.feed("all of it"), "all of it");
  EXPECT_FALSE(stops.stopped());
}

TEST(StopStrings, CutsBetweenCharacters) {
  StopStrings stops({"\xC3\xA9!"});
  EXPECT_EQ(stops.feed("a\xC3\xA9"), "a");
  EXPECT_EQ(stops.feed("\xC3\xA8"), "\xC3\xA9\xC3\xA8");
}

// Against a search in the whole text; cut at random, the outcome must not change.
TEST(StopStrings, IsAFunctionOfTheTextAlone) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  const auto word = [&](std::size_t length) {
    std::string out;
    for (std::size_t i = 0; i < length; ++i) out += static_cast<char>('a' + random() % 2);
    return out;
  };
  for (int round = 0; round < 20000; ++round) {
    const std::string text = word(random() % 30);
    std::vector<std::string> list;
    for (std::size_t i = 0; i <= random() % 3; ++i) list.push_back(word(1 + random() % 6));
    std::string expected = text;
    bool stops_here = false;
    for (std::size_t end = 1; end <= text.size() && !stops_here; ++end) {
      for (const std::string& stop : list) {
        if (end < stop.size() || text.compare(end - stop.size(), stop.size(), stop) != 0) continue;
        stops_here = true;
        if (end - stop.size() < expected.size()) expected.resize(end - stop.size());
      }
    }
    StopStrings stops(list);
    std::string out;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t count = 1 + random() % 4;
      out += stops.feed(std::string_view(text).substr(at, count));
      at += count;
    }
    if (!stops.stopped()) out += stops.finish();
    ASSERT_EQ(out, expected) << text;
    ASSERT_EQ(stops.stopped(), stops_here);
  }
}

}  // namespace
}  // namespace facet
