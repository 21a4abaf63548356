// The output file: resumed, locked, torn, full; a stranger's file is left alone.
#include "broker/cli/result_file.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include "tests/unit/cli/temp_dir.h"

namespace facet {
namespace {

std::string row(const std::string& image, const std::string& content, bool has_failed = false,
                RowFormat format = RowFormat::kJsonl) {
  BatchItem item;
  item.image = "\"" + image + "\"";
  Answer answer;
  answer.text = "line one\nline \"two\" of " + image;
  if (has_failed) answer.error.emplace(Code::kIo, "bad");
  return format_row({&item, {content, "5e77"}, "m", &answer}, format);
}

class BothFormats : public testing::TestWithParam<RowFormat> {
 protected:
  std::string line(const std::string& image, bool has_failed = false) const {
    return row(image, "c-" + image, has_failed, GetParam());
  }
  Result<ResultFile> open() const { return ResultFile::open(dir_.at("out"), GetParam()); }
  TempDir dir_;
};

TEST_P(BothFormats, GoesOnWhereItEnded) {
  {
    auto file = open();
    ASSERT_TRUE(file) << file.error().message;
    EXPECT_TRUE(file->past().empty());
    EXPECT_TRUE(file->append(line("a")));
    EXPECT_TRUE(file->append(line("b", true)));
    EXPECT_TRUE(file->sync());
  }
  auto again = open();
  ASSERT_TRUE(again) << again.error().message;
  ASSERT_EQ(again->past().size(), 2u);
  EXPECT_EQ(again->past()[0].image, "\"a\"");
  EXPECT_FALSE(again->past()[0].has_failed);
  EXPECT_TRUE(again->past()[1].has_failed);
  EXPECT_FALSE(again->dropped_torn_line());
}

TEST_P(BothFormats, ATornLastLineIsDroppedWhereverItTore) {
  {
    auto file = open();
    ASSERT_TRUE(file->append(line("a")));
  }
  const std::string before = dir_.read("out");
  const std::string torn = line("b");
  for (std::size_t cut = 1; cut < torn.size(); ++cut) {
    dir_.file("out", before + torn.substr(0, cut));
    auto file = open();
    ASSERT_TRUE(file) << cut << file.error().message;
    EXPECT_TRUE(file->dropped_torn_line());
    EXPECT_EQ(file->past().size(), 1u);
    EXPECT_EQ(dir_.read("out"), before);
  }
}

TEST_P(BothFormats, ASecondBatchIsRefused) {
  const auto first = open();
  ASSERT_TRUE(first);
  const auto second = open();
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().message.find("another batch is writing"), std::string::npos);
}

TEST_P(BothFormats, AStrangersFileIsLeftAsItIs) {
  for (const std::string& content :
       {std::string("dear diary\n"), std::string("\xff\xd8\xff\xe0 jpeg"), std::string("no end"),
        line("a") + "something else\n" + line("b"), std::string("a,b,c\n1,2,3\n")}) {
    dir_.file("out", content);
    const auto file = open();
    EXPECT_FALSE(file) << content;
    EXPECT_EQ(dir_.read("out"), content);
  }
}

TEST_P(BothFormats, DropsOnlyWhatIsNotWanted) {
  {
    auto file = open();
    for (const char* name : {"a", "b", "c", "d"}) {
      ASSERT_TRUE(file->append(line(name, name[0] == 'b' || name[0] == 'd')));
    }
    const auto dropped = file->drop(
        [](const PastRow&) { return false; });  // past() is of the earlier run: nothing yet
    EXPECT_EQ(*dropped, 0u);
  }
  auto file = open();
  const auto dropped =
      file->drop([](const PastRow& past) { return past.has_failed && past.image == "\"b\""; });
  ASSERT_TRUE(dropped) << dropped.error().message;
  EXPECT_EQ(*dropped, 1u);
  EXPECT_EQ(file->past().size(), 3u);
  EXPECT_TRUE(file->append(line("b")));
  EXPECT_FALSE(std::filesystem::exists(dir_.at("out.tmp")));
  EXPECT_FALSE(open());  // the new file is locked as well
  file = Error(Code::kIo, "closed");
  const auto after = open();
  ASSERT_TRUE(after) << after.error().message;
  std::vector<std::string> images;
  for (const PastRow& past : after->past()) images.push_back(past.image);
  EXPECT_EQ(images, (std::vector<std::string>{"\"a\"", "\"c\"", "\"d\"", "\"b\""}));
}

TEST_P(BothFormats, AFullDiskTearsNothing) {
  auto file = open();
  ASSERT_TRUE(file->append(line("a")));
  const std::string before = dir_.read("out");
  signal(SIGXFSZ, SIG_IGN);  // write() fails instead
  rlimit old_limit{};
  getrlimit(RLIMIT_FSIZE, &old_limit);
  for (std::size_t room = 0; room < 40; room += 13) {
    rlimit limit = old_limit;
    limit.rlim_cur = before.size() + room;
    setrlimit(RLIMIT_FSIZE, &limit);
    const Status appended = file->append(line("b"));
    setrlimit(RLIMIT_FSIZE, &old_limit);
    ASSERT_FALSE(appended);
    EXPECT_NE(appended.error().message.find("out: "), std::string::npos);
    EXPECT_EQ(dir_.read("out"), before);
  }
  EXPECT_TRUE(file->append(line("b")));
}

TEST_P(BothFormats, WhatCannotBeAFileIsRefused) {
  EXPECT_FALSE(ResultFile::open(dir_.path.string(), GetParam()));
  EXPECT_FALSE(ResultFile::open(dir_.at("no/such/folder"), GetParam()));
  EXPECT_FALSE(ResultFile::open("/dev/null", GetParam()));
}

INSTANTIATE_TEST_SUITE_P(ResultFile, BothFormats,
                         testing::Values(RowFormat::kJsonl, RowFormat::kCsv));

}  // namespace
}  // namespace facet
