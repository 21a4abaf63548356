// Which failures of an earlier run are forgotten: those whose file is another now, and no more.
#include "broker/cli/past_failures.h"

#include <gtest/gtest.h>

#include "tests/unit/cli/temp_dir.h"

namespace facet {
namespace {

class PastFailures : public testing::Test {
 protected:
  // A line for this file as an earlier run wrote it.
  void line(const std::string& name, const std::string& content, bool has_failed,
            const std::string& prompt = "p") {
    auto file = ResultFile::open(dir_.at("out"), RowFormat::kJsonl);
    const BatchItems items = *list_images({dir_.at(name)}, false, prompt);
    const auto request = make_request({}, prompt, 1, Priority::kBatch);
    Answer answer;
    if (has_failed) answer.error.emplace(Code::kIo, "bad");
    const RowKey key{content, settings_hash(request, "m")};
    ASSERT_TRUE(file->append(format_row({&items.items[0], key, "m", &answer}, RowFormat::kJsonl)));
  }
  std::size_t drop(DropFailures which) {
    auto file = ResultFile::open(dir_.at("out"), RowFormat::kJsonl);
    return *drop_failures(*file, *list_images({dir_.at("images")}, false, "p"), {}, "m", which);
  }
  std::string hash(const std::string& bytes) {
    return content_hash({std::make_shared<const std::string>(bytes)});
  }
  TempDir dir_;
};

TEST_F(PastFailures, AMendedFileLosesItsFailure) {
  for (const char* name : {"mended", "changed", "same", "good"}) {
    dir_.file("images/" + std::string(name) + ".png", name);
  }
  dir_.file("images/empty.png", "");
  dir_.file("elsewhere.png", "x");
  line("images/mended.png", "unreadable", true);
  line("images/mended.png", hash("mended"), false);     // an answer that came later
  line("images/mended.png", "unreadable", true, "p2");  // to another question
  line("images/changed.png", hash("broken"), true);
  line("images/same.png", hash("same"), true);
  line("images/good.png", hash("good before"), false);
  line("images/empty.png", "unreadable", true);
  line("elsewhere.png", "unreadable", true);  // not of this run
  EXPECT_EQ(drop(DropFailures::kChanged), 2u);
  EXPECT_EQ(drop(DropFailures::kChanged), 0u);
  auto file = ResultFile::open(dir_.at("out"), RowFormat::kJsonl);
  EXPECT_EQ(file->past().size(), 6u);
  file = Error(Code::kIo, "closed");
  EXPECT_EQ(drop(DropFailures::kAll), 2u);  // same and empty
}

}  // namespace
}  // namespace facet
