#include "broker/decoder/decode_server.h"

#include <gtest/gtest.h>

#include <csignal>

#include "broker/decoder/decode_child.h"
#include "broker/decoder/oriented_rows.h"

namespace facet {
namespace {

constexpr int exited(int code) { return code << 8; }
constexpr int killed(int number) { return number; }

TEST(Outcome, AnswerDecidesAboutACleanEnd) {
  EXPECT_EQ(outcome_of({exited(0)}, true, true), DecodeOutcome::kOk);
  EXPECT_EQ(outcome_of({exited(0)}, true, false), DecodeOutcome::kBadImage);
  EXPECT_EQ(outcome_of({exited(0)}, false, false), DecodeOutcome::kChildFault);
  EXPECT_EQ(outcome_of({exited(1)}, true, true), DecodeOutcome::kChildFault);
  EXPECT_EQ(outcome_of({exited(71)}, false, false), DecodeOutcome::kChildKilled);
}

TEST(Outcome, OwnFaultOrNot) {
  for (const int number : {SIGSEGV, SIGABRT, SIGSYS, SIGXCPU, SIGBUS, SIGFPE, SIGILL}) {
    EXPECT_EQ(outcome_of({killed(number)}, false, false), DecodeOutcome::kChildFault) << number;
  }
  for (const int number : {SIGKILL, SIGTERM, SIGINT, SIGHUP, SIGQUIT}) {
    EXPECT_EQ(outcome_of({killed(number)}, false, false), DecodeOutcome::kChildKilled) << number;
  }
  ChildEnd end{killed(SIGKILL)};
  end.is_timed_out = true;  // stopped, or starved by a busy host: not the image's doing
  EXPECT_EQ(outcome_of(end, false, false), DecodeOutcome::kChildKilled);
  end.is_out_of_cpu = true;
  EXPECT_EQ(outcome_of(end, false, false), DecodeOutcome::kChildFault);
}

TEST(CheckJob, AcceptsRunsInsideTheRing) {
  DecodeJob job;
  job.encoded_offset = 0;
  job.encoded_bytes = 4096;
  job.pixels_offset = 4096;
  job.pixels_bytes = 3 * 10 * 20;
  job.width = 10;
  job.height = 20;
  EXPECT_TRUE(check_job(job, 8192));
  EXPECT_FALSE(check_job(job, 4096 + 599));
  job.encoded_bytes = 4097;
  EXPECT_EQ(check_job(job, 8192).error().message, "decode job is wrong: the runs overlap");
}

TEST(OrientedRows, MovesEveryPixelWhereExifSays) {
  // Stored 2 x 3 with pixel values 0..5; rows of the upright image for each orientation.
  const std::vector<std::vector<int>> upright = {
      {0, 1, 2, 3, 4, 5}, {1, 0, 3, 2, 5, 4}, {5, 4, 3, 2, 1, 0}, {4, 5, 2, 3, 0, 1},
      {0, 2, 4, 1, 3, 5}, {4, 2, 0, 5, 3, 1}, {5, 3, 1, 4, 2, 0}, {1, 3, 5, 0, 2, 4}};
  for (std::uint32_t orientation = 1; orientation <= 8; ++orientation) {
    ImageInfo info;
    info.stored_width = 2;
    info.stored_height = 3;
    info.orientation = orientation;
    info.width = orientation >= 5 ? 3 : 2;
    info.height = orientation >= 5 ? 2 : 3;
    std::vector<std::uint8_t> out(18, 99);
    OrientedRows rows(info, out);
    for (std::uint8_t y = 0; y < 3; ++y) {
      const auto left = static_cast<std::uint8_t>(2 * y);
      const auto right = static_cast<std::uint8_t>(2 * y + 1);
      const std::uint8_t rgb[6] = {left, left, left, right, right, right};
      rows.put(y, rgb);
    }
    for (std::size_t i = 0; i < 18; ++i) {
      EXPECT_EQ(out[i], upright[orientation - 1][i / 3]) << orientation << " at " << i;
    }
    EXPECT_EQ(rows.is_upright(), orientation == 1);
  }
}

}  // namespace
}  // namespace facet
