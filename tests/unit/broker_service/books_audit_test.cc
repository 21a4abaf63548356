#include "broker/service/books_audit.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace facet {
namespace {

TEST(BooksAudit, TakesATwentiethOfTheTimeHoweverOftenItIsAskedFor) {
  std::vector<Nanos> took;
  BooksAudit books([&]() -> Status {
    const Nanos started = monotonic_now();
    while (monotonic_now() - started < kMillisecond) {
    }
    took.push_back(monotonic_now() - started);
    return {};
  });
  const Nanos started = monotonic_now();
  while (took.size() < 5) books.verdict();
  const Nanos passed = monotonic_now() - started;
  const Nanos former = std::accumulate(took.begin(), took.end() - 1, Nanos{0});
  EXPECT_GE(passed, BooksAudit::kRest * former);
}

TEST(BooksAudit, NamesADiscrepancyForAsLongAsThereIsOne) {
  std::string wrong;
  BooksAudit books([&]() -> Status {
    if (!wrong.empty()) return Error(Code::kInternal, wrong);
    return {};
  });
  const auto becomes = [&](const std::string& wanted) {
    wrong = wanted;
    const Nanos give_up = monotonic_now() + 30 * kSecond;
    while (books.verdict() != wanted && monotonic_now() < give_up) {
    }
    return books.verdict() == wanted;
  };
  EXPECT_TRUE(becomes("leases: 2 counted, 1 stated"));
  EXPECT_TRUE(becomes(""));
}

}  // namespace
}  // namespace facet
