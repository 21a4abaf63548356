#include "broker/cli/csv.h"

#include <gtest/gtest.h>

#include <random>

namespace facet {
namespace {

TEST(Csv, QuotesWhatNeedsIt) {
  EXPECT_EQ(csv_line({"a", "b c", ""}), "a,b c,\n");
  EXPECT_EQ(csv_line({"a,b", "say \"hi\"", "two\nlines", "cr\r"}),
            "\"a,b\",\"say \"\"hi\"\"\",\"two\nlines\",\"cr\r\"\n");
}

TEST(Csv, ReadsBackWhatItWrote) {
  std::mt19937 random(11);
  const std::string letters = "a,\"\n\r x";
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::string> fields(1 + random() % 5);
    for (auto& field : fields) {
      for (auto n = random() % 6; n-- > 0;) field += letters[random() % letters.size()];
    }
    const std::string line = csv_line(fields);
    const CsvRecord record = parse_csv_record(line + "next,record\n");
    ASSERT_EQ(record.fields, fields) << line;
    ASSERT_EQ(record.bytes, line.size());
  }
}

TEST(Csv, ATornRecordHasNoLength) {
  EXPECT_EQ(parse_csv_record("a,b").bytes, 0u);
  EXPECT_EQ(parse_csv_record("a,\"b\n").bytes, 0u);
  EXPECT_EQ(parse_csv_record("").bytes, 0u);
}

}  // namespace
}  // namespace facet
