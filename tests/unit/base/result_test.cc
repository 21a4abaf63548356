#include "common/base/result.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <set>

#include "common/base/check.h"

namespace facet {
namespace {

Result<int> half(int number) {
  if (number % 2 != 0) return Error(Code::kInvalidArgument, std::to_string(number) + " is odd");
  return number / 2;
}

Result<int> quarter(int number) {
  const int once = FACET_TRY(half(number));
  return FACET_TRY(half(once));
}

Status must_be_even(int number) {
  FACET_TRY_STATUS(half(number));
  return {};
}

Result<std::unique_ptr<int>> boxed(int number) {
  return std::make_unique<int>(FACET_TRY(half(number)));
}

TEST(Result, TryPassesValuesAndErrorsOn) {
  EXPECT_EQ(*quarter(12), 3);
  EXPECT_EQ(quarter(7).error().message, "7 is odd");
  EXPECT_EQ(quarter(6).error().message, "3 is odd");  // of the second step
  EXPECT_TRUE(must_be_even(2));
  EXPECT_EQ(must_be_even(3).error().code, Code::kInvalidArgument);
}

TEST(Result, HoldsWhatCanOnlyBeMoved) {
  EXPECT_EQ(**boxed(4), 2);
  const std::unique_ptr<int> moved = *boxed(8);
  EXPECT_EQ(*moved, 4);
  EXPECT_FALSE(boxed(5));
}

TEST(Result, ErrorsKnowWhereTheyWereMade) {
  const Error error(Code::kIo, "x");
  EXPECT_NE(std::string_view(error.file).find("result_test.cc"), std::string_view::npos);
  EXPECT_EQ(error.line, __LINE__ - 2);
}

TEST(Result, CodeNamesAreDistinct) {
  std::set<std::string_view> names;
  for (int code = 1; code <= 13; ++code) names.insert(code_name(static_cast<Code>(code)));
  EXPECT_EQ(names.size(), 13u);
  EXPECT_EQ(names.count("unknown"), 0u);
  EXPECT_EQ(code_name(static_cast<Code>(999)), "unknown");  // numbers come from other processes
}

TEST(Result, ErrnoBecomesACode) {
  EXPECT_EQ(errno_error("open", ENOENT).code, Code::kNotFound);
  EXPECT_EQ(errno_error("write", ENOSPC).code, Code::kExhausted);
  EXPECT_EQ(errno_error("mmap", ENOMEM).code, Code::kExhausted);
  EXPECT_EQ(errno_error("accept", EMFILE).code, Code::kExhausted);
  EXPECT_EQ(errno_error("read", EIO).code, Code::kIo);
  EXPECT_EQ(errno_error("open /x", ENOENT).message, "open /x: No such file or directory");
}

TEST(CheckDeathTest, AbortsAndNamesTheCondition) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  FACET_CHECK(1 + 1 == 2);
  EXPECT_DEATH(FACET_CHECK(1 + 1 == 3), "result_test.cc:[0-9]+: check failed: 1 \\+ 1 == 3");
  EXPECT_DEATH(FACET_CHECK_MSG(false, "because"), "because");
}

}  // namespace
}  // namespace facet
