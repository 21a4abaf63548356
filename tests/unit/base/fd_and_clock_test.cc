#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/unique_fd.h"

namespace facet {
namespace {

bool is_open(int fd) {
  return fcntl(fd, F_GETFD) >= 0;
}

TEST(UniqueFd, ClosesOnceAndMoves) {
  int raw = -1;
  {
    UniqueFd first(open("/dev/null", O_RDONLY | O_CLOEXEC));
    raw = first.get();
    ASSERT_TRUE(is_open(raw));
    UniqueFd second(std::move(first));
    EXPECT_FALSE(first);
    EXPECT_EQ(second.get(), raw);
    UniqueFd* same = &second;
    second = std::move(*same);  // onto itself: still open
    EXPECT_TRUE(is_open(raw));
    second = UniqueFd(open("/dev/null", O_RDONLY | O_CLOEXEC));
    EXPECT_FALSE(is_open(raw));
    raw = second.get();
  }
  EXPECT_FALSE(is_open(raw));
}

TEST(UniqueFd, ReleaseGivesItAway) {
  UniqueFd fd(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const int raw = fd.release();
  fd.reset();
  EXPECT_TRUE(is_open(raw));
  close(raw);
}

TEST(Clock, OnlyGrows) {
  Nanos last = monotonic_now();
  std::uint64_t last_incarnation = new_incarnation();
  for (int i = 0; i < 1000; ++i) {
    const Nanos now = monotonic_now();
    const std::uint64_t incarnation = new_incarnation();
    EXPECT_GE(now, last);
    EXPECT_GE(incarnation, last_incarnation);
    last = now;
    last_incarnation = incarnation;
  }
  EXPECT_LT(monotonic_now() - last, 10 * kSecond);
}

}  // namespace
}  // namespace facet
