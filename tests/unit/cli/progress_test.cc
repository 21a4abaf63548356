#include "broker/cli/progress.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

namespace facet {
namespace {

TEST(Progress, SaysWhereTheBatchStands) {
  BatchCounts counts;
  counts.total = 100;
  counts.answered = 30;
  EXPECT_EQ(progress_text(counts, 2.0), "30/100 done, 2.0 images/s, ETA 0:35");
  counts.failed = 2;
  counts.skipped = 7;
  counts.skipped_failed = 1;
  EXPECT_EQ(progress_text(counts, 0.0), "40/100 done (8 earlier), 2 failed, 0.0 images/s");
}

TEST(Progress, Durations) {
  EXPECT_EQ(duration_text(0.2), "0:00");
  EXPECT_EQ(duration_text(65), "1:05");
  EXPECT_EQ(duration_text(3723), "1:02:03");
}

TEST(RateMeter, LooksAtTheLastSeconds) {
  RateMeter meter;
  EXPECT_EQ(meter.per_second(), 0.0);
  meter.add(0, 0);
  EXPECT_EQ(meter.per_second(), 0.0);
  meter.add(kSecond, 10);
  EXPECT_DOUBLE_EQ(meter.per_second(), 10.0);
  for (int second = 2; second < 60; ++second) meter.add(second * kSecond, 10 + second - 1);
  EXPECT_NEAR(meter.per_second(), 1.0, 0.01);  // the first burst is forgotten
}

std::string printed(bool is_terminal, bool is_quiet) {
  char* text = nullptr;
  std::size_t size = 0;
  std::FILE* out = open_memstream(&text, &size);
  Progress progress(out, is_terminal, is_quiet);
  BatchCounts counts;
  counts.total = 2;
  for (int ms = 10'000; ms < 16'000; ms += 50) progress.update(counts, ms * kMillisecond);
  progress.message("note");
  std::fclose(out);
  std::string result(text, size);
  std::free(text);
  return result;
}

TEST(Progress, OneLineOnATerminalAFewElsewhere) {
  const std::string terminal = printed(true, false);
  EXPECT_GT(std::count(terminal.begin(), terminal.end(), '\r'), 50);
  EXPECT_EQ(std::count(terminal.begin(), terminal.end(), '\n'), 1);
  EXPECT_TRUE(terminal.ends_with("\r\x1b[Knote\n"));
  const std::string log = printed(false, false);
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 3);
  EXPECT_EQ(log.find('\x1b'), std::string::npos);
  EXPECT_EQ(printed(true, true), "note\n");
}

}  // namespace
}  // namespace facet
