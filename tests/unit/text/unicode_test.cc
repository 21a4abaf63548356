// Character classes and NFC over all of Unicode against checksums of the reference's.
#include <gtest/gtest.h>

#include <array>

#include "tests/unit/text/goldens.h"
#include "worker/text/byte_level.h"
#include "worker/text/nfc.h"
#include "worker/text/regex.h"
#include "worker/text/utf8.h"

namespace facet {
namespace {

std::uint32_t crc32(std::string_view bytes) {
  std::uint32_t crc = ~0u;
  for (const char byte : bytes) {
    crc ^= static_cast<std::uint8_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0u);
  }
  return ~crc;
}

std::vector<std::uint32_t> all_code_points() {
  std::vector<std::uint32_t> all;
  for (std::uint32_t c = 0; c < 0x110000; ++c) {
    if (c < 0xD800 || c > 0xDFFF) all.push_back(c);
  }
  return all;
}

TEST(Unicode, CharacterClassesHoldTheReferencesCharacters) {
  std::string all;
  for (const std::uint32_t c : all_code_points()) append_utf8(c, all);
  const nlohmann::json goldens = read_test_json("goldens.json");
  ASSERT_EQ(goldens["classes"].size(), 10u);
  for (const auto& [pattern, golden] : goldens["classes"].items()) {
    const auto matches = Regex::compile(pattern)->find_all(all).value();
    std::string matched;
    for (const ByteRange match : matches) {
      matched += all.substr(match.begin, match.end - match.begin);
    }
    EXPECT_EQ(matches.size(), golden[0].get<std::size_t>()) << pattern;
    EXPECT_EQ(crc32(matched), golden[1].get<std::uint32_t>()) << pattern;
    // Inside and outside of a class, and negated, the same set.
    const auto others = Regex::compile("[^" + pattern + "]")->find_all(all).value();
    EXPECT_EQ(others.size(), all_code_points().size() - matches.size()) << pattern;
  }
}

TEST(Unicode, NfcEqualsTheReferenceForEveryCharacterBetweenMarks) {
  const auto all = all_code_points();
  const auto goldens = read_test_json("goldens.json")["nfc_blocks"];
  for (std::size_t block = 0; block < goldens.size(); ++block) {
    std::string text;
    for (std::size_t i = block * 0x4000; i < std::min(all.size(), (block + 1) * 0x4000); ++i) {
      append_utf8(all[i], text);
      text += "a\xCC\xA3";
      append_utf8(all[i], text);
      text += "\xCC\x81\xCC\xB4\n";
    }
    EXPECT_EQ(crc32(normalize_nfc(text)), goldens[block].get<std::uint32_t>()) << block;
  }
}

TEST(Unicode, NfcMayBeCutAtBoundaries) {
  for (const std::uint32_t c : all_code_points()) {
    if (!is_nfc_boundary(c)) continue;
    std::string cut = "e\xCC\x81", whole = cut;
    std::string tail;
    append_utf8(c, tail);
    ASSERT_EQ(normalize_nfc(whole + tail), normalize_nfc(cut) + normalize_nfc(tail)) << c;
  }
}

TEST(Unicode, ByteLevelAlphabetIsTwoWay) {
  std::string bytes;
  for (int i = 0; i < 256; ++i) bytes.push_back(static_cast<char>(i));
  EXPECT_EQ(from_byte_level(to_byte_level(bytes)), bytes);
  EXPECT_EQ(to_byte_level(" \n"), "\xC4\xA0\xC4\x8A");
  EXPECT_EQ(from_byte_level("\xE4\xBD\xA0"), "\xE4\xBD\xA0");  // outside: stands for itself
  EXPECT_EQ(from_byte_level("a b"), "a b");
}

TEST(Utf8, ReplacesMaximalSubparts) {
  const std::string r(kReplacementCharacter);
  EXPECT_EQ(replace_invalid_utf8("\xF0\x9F\x98"), r);             // cut off
  EXPECT_EQ(replace_invalid_utf8("\xF0\x9F\x98x"), r + "x");
  EXPECT_EQ(replace_invalid_utf8("\xE0\x80\x80"), r + r + r);     // overlong
  EXPECT_EQ(replace_invalid_utf8("\xED\xA0\x80"), r + r + r);     // surrogate
  EXPECT_EQ(replace_invalid_utf8("\xF4\x90\x80\x80"), r + r + r + r);
  EXPECT_EQ(replace_invalid_utf8("\xC3\xA9\x80"), "\xC3\xA9" + r);
  EXPECT_TRUE(is_valid_utf8("plain ASCII of some length, then \xF0\x9F\x98\x80"));
  EXPECT_FALSE(is_valid_utf8("plain ASCII of some length, then \xF0\x9F\x98"));
}

}  // namespace
}  // namespace facet
