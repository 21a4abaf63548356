#include "common/protocol/text_check.h"

#include <gtest/gtest.h>

namespace facet {
namespace {

TEST(Utf8, AcceptsWhatIsWellFormed) {
  for (const char* text : {"", "ascii only, longer than eight", "é", "赤い", "🙂",
                           "a\xf4\x8f\xbf\xbf", "12345678é", "\xef\xbb\xbf"}) {
    EXPECT_TRUE(is_utf8(text)) << text;
  }
  EXPECT_TRUE(is_utf8(std::string_view("a\0b", 3)));
}

TEST(Utf8, RefusesTheRest) {
  for (const char* text :
       {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80",
        "\xf8\x88\x80\x80\x80", "\xff", "12345678\xc3", "\xe2\x82", "a\xfe"}) {
    EXPECT_FALSE(is_utf8(text)) << printable_quote(text);
  }
}

TEST(BoundedText, CutsBetweenCharacters) {
  EXPECT_EQ(bounded_text("ééé", 5), "éé");
  EXPECT_EQ(bounded_text("abc", 3), "abc");
  EXPECT_EQ(bounded_text("a\xff", 3), "a?");
  EXPECT_EQ(bounded_text("x", 0), "");
}

TEST(PrintableQuote, ShowsPrintableAsciiOnly) {
  EXPECT_EQ(printable_quote("top_q"), "\"top_q\"");
  EXPECT_EQ(printable_quote("a\n\"\x7f"), "\"a\\x0a\\x22\\x7f\"");
  EXPECT_EQ(printable_quote(std::string(65, 'x')), "\"" + std::string(64, 'x') + "\"...");
}

}  // namespace
}  // namespace facet
