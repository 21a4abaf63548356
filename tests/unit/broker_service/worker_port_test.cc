#include "broker/service/worker_port.h"

#include <gtest/gtest.h>

#include "broker/service/log_limiter.h"

namespace facet {
namespace {

TEST(WorkerIdentity, ReadsWhatItWritesAndNothingElse) {
  const WorkerIdentity identity{12, 1ull << 63, 7};
  EXPECT_EQ(parse_worker_identity(format_worker_identity(identity)), identity);
  for (const char* text : {"", ".", "1", "1.", ".1", "1.2", "1.2.", "1.2.3.4", "a.1.1", "-1.2.3",
                           "1.-2.3", "1 .2.3", "1.2.3 ", "1.2.-3", "99999999999.1.1",
                           "1.99999999999999999999999.1"}) {
    EXPECT_FALSE(parse_worker_identity(text).has_value()) << text;
  }
}

TEST(LogLimiter, LetsABurstPassThenOneAnIntervalAndCountsTheRest) {
  LogLimiter limiter(3, kSecond);
  std::uint64_t skipped = 0;
  Nanos now = 100 * kSecond;
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(limiter.allow(now, skipped));
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(limiter.allow(now, skipped));
  now += kSecond;
  EXPECT_TRUE(limiter.allow(now, skipped));
  EXPECT_EQ(skipped, 5u);
  EXPECT_FALSE(limiter.allow(now, skipped));
  now += 100 * kSecond;
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(limiter.allow(now, skipped));
  EXPECT_FALSE(limiter.allow(now, skipped));
}

}  // namespace
}  // namespace facet
