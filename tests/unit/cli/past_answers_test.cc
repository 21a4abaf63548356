#include "broker/cli/past_answers.h"

#include <gtest/gtest.h>

namespace facet {
namespace {

using Found = PastAnswers::Found;

BatchItem item(const std::string& image) {
  BatchItem made;
  made.image = image;
  return made;
}

const RowKey kKey{"c", "s"};
const RowKey kOther{"d", "s"};

TEST(PastAnswers, SkipsWhatWasAnswered) {
  PastAnswers past({{"a", kKey, false}, {"b", kOther, true}}, {item("a"), item("b"), item("c")});
  EXPECT_EQ(past.take(item("a"), kKey), Found::kAnswered);
  EXPECT_EQ(past.take(item("b"), kOther), Found::kFailed);
  EXPECT_EQ(past.take(item("c"), kKey), Found::kNo);
}

TEST(PastAnswers, TwoFilesOfTheSameContentAreTwoLines) {
  PastAnswers past({{"b", kKey, false}}, {item("a"), item("b")});
  EXPECT_EQ(past.take(item("a"), kKey), Found::kNo);
  EXPECT_EQ(past.take(item("b"), kKey), Found::kAnswered);
}

TEST(PastAnswers, ARenamedFileIsAnsweredOnce) {
  PastAnswers past({{"old name", kKey, false}}, {item("a"), item("b")});
  EXPECT_EQ(past.take(item("a"), kKey), Found::kAnswered);
  EXPECT_EQ(past.take(item("b"), kKey), Found::kNo);
}

TEST(PastAnswers, ChangedContentOrSettingsAreAskedAgain) {
  PastAnswers past({{"a", kKey, false}}, {item("a")});
  EXPECT_EQ(past.take(item("a"), RowKey{"c2", "s"}), Found::kNo);
  EXPECT_EQ(past.take(item("a"), RowKey{"c", "s2"}), Found::kNo);
}

TEST(PastAnswers, UnreadableFilesAreToldApartByName) {
  const RowKey unreadable{"unreadable", "s"};
  PastAnswers past({{"gone", unreadable, true}}, {item("a")});
  EXPECT_EQ(past.take(item("a"), unreadable), Found::kNo);
}

}  // namespace
}  // namespace facet
