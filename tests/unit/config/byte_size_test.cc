#include "common/config/byte_size.h"

#include <gtest/gtest.h>

#include <random>

namespace facet {
namespace {

TEST(ByteSize, ReadsEveryUnit) {
  EXPECT_EQ(*parse_byte_size("0"), 0u);
  EXPECT_EQ(*parse_byte_size("4096"), 4096u);
  EXPECT_EQ(*parse_byte_size("7B"), 7u);
  EXPECT_EQ(*parse_byte_size("2kB"), 2000u);
  EXPECT_EQ(*parse_byte_size("2KB"), 2000u);
  EXPECT_EQ(*parse_byte_size("2KiB"), 2048u);
  EXPECT_EQ(*parse_byte_size("15GB"), 15'000'000'000u);
  EXPECT_EQ(*parse_byte_size("15 GiB"), 15ull << 30);
  EXPECT_EQ(*parse_byte_size(" 1.5GiB "), 3ull << 29);
  EXPECT_EQ(*parse_byte_size("0.1GB"), 100'000'000u);
  EXPECT_EQ(*parse_byte_size("4TiB"), 4ull << 40);
}

TEST(ByteSize, RefusesWhatIsNoSize) {
  for (const char* text :
       {"", " ", "GB", "-1", "+1", "1 G", "1gb", "1GBs", "1e3", "inf", "nan", "0x10", "1..5GB",
        "1GB 2GB", "9999999999TiB", "1,5GB", ".5GB", "1GB\n"}) {
    const auto size = parse_byte_size(text);
    ASSERT_FALSE(size) << text;
    EXPECT_EQ(size.error().code, Code::kInvalidArgument);
    EXPECT_NE(size.error().message.find(std::string("\"") + text + "\""), std::string::npos);
  }
}

TEST(ByteSize, ReadsLists) {
  EXPECT_EQ(parse_byte_sizes("15GB 15GB")->size(), 2u);
  EXPECT_EQ(*parse_byte_sizes("1GB,2GiB ,\t3"),
            (std::vector<std::uint64_t>{1'000'000'000, 2ull << 30, 3}));
  EXPECT_TRUE(parse_byte_sizes("")->empty());
  EXPECT_TRUE(parse_byte_sizes(" , ")->empty());
  EXPECT_FALSE(parse_byte_sizes("15GB 15Gb"));
}

TEST(ByteSize, FormatsWhatReadsBackEqual) {
  EXPECT_EQ(format_byte_size(0), "0B");
  EXPECT_EQ(format_byte_size(512ull << 20), "512MiB");
  EXPECT_EQ(format_byte_size(15'000'000'000), "15GB");
  EXPECT_EQ(format_byte_size(1001), "1001B");
  std::mt19937_64 random(7);
  for (int i = 0; i < 10000; ++i) {
    const std::uint64_t bytes = random() >> (11 + random() % 53);
    ASSERT_EQ(*parse_byte_size(format_byte_size(bytes)), bytes);
  }
}

}  // namespace
}  // namespace facet
