// Logits against transformers 5.17.0, teacher-forced: where the engine's token is not the
// reference's (two best logits too close to tell), the sequence goes on from the reference's.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "tests/parity/fixture.h"
#include "tests/parity/forced_run.h"
#include "tests/parity/golden_cases.h"
#include "worker/model/host_facts.h"

namespace facet {
namespace {

// Two sums of the same numbers in other orders: what the reference's own two attention paths are
// apart, doubled, and the rounding of the stored values.
double fp32_tolerance(const ParityGoldens& goldens) {
  return 2.0 * goldens.sdpa_max_difference + 2e-5;
}

std::vector<ForcedCase> cases_of(const ParityGoldens& goldens) {
  std::vector<ForcedCase> cases;
  for (const ParityGoldens::Case& golden : goldens.cases)
    cases.push_back({&golden, golden.output_ids});
  return cases;
}

// False when the engine did not start.
bool run(ForcedRun& forced, StartOptions options) {
  options.logits_tap = forced.tap();
  const auto engine = start_fixture(options);
  if (engine != nullptr) forced.run(*engine);
  return engine != nullptr;
}

struct Apart {
  double max = 0.0;
  double sum = 0.0;
  std::size_t count = 0;

  void add(double difference) {
    max = std::max(max, std::abs(difference));
    sum += std::abs(difference);
    ++count;
  }
  double mean() const { return sum / static_cast<double>(count); }
};

// Whole rows of `goldens.row_steps`.
Apart compare_rows(const ParityGoldens& goldens, const StartOptions& options) {
  Apart apart;
  ForcedRun forced(cases_of(goldens), parity_data(),
                   [&](std::size_t number, std::size_t step, std::span<const float> logits) {
                     const auto kept =
                         std::find(goldens.row_steps.begin(), goldens.row_steps.end(), step);
                     ASSERT_NE(kept, goldens.row_steps.end());
                     const auto wanted = goldens.row(
                         number, static_cast<std::size_t>(kept - goldens.row_steps.begin()));
                     ASSERT_EQ(logits.size(), wanted.size());
                     for (std::size_t i = 0; i < wanted.size(); ++i)
                       apart.add(static_cast<double>(logits[i]) - static_cast<double>(wanted[i]));
                   });
  for (std::size_t number = 0; number < goldens.row_cases; ++number)
    for (const std::size_t step : goldens.row_steps) forced.add(number, step, step + 1);
  EXPECT_TRUE(run(forced, options));
  EXPECT_EQ(forced.num_steps, goldens.row_cases * goldens.row_steps.size());
  return apart;
}

class Logits : public ::testing::TestWithParam<std::string> {};

TEST_P(Logits, EveryStepOfEveryPromptInFp32) {
  const ParityGoldens goldens = read_parity_goldens(parity_data() + "/parity", GetParam());
  Apart apart;
  ForcedRun forced(
      cases_of(goldens), parity_data(),
      [&](std::size_t number, std::size_t step, std::span<const float> logits) {
        const auto chosen = static_cast<std::size_t>(goldens.cases[number].output_ids[step]);
        apart.add(logits[chosen] - goldens.chosen_logit(number, step));
        apart.add(logits[goldens.probe_token(step)] - goldens.probe_logit(number, step));
      });
  for (std::size_t number = 0; number < goldens.cases.size(); ++number)
    forced.add(number, 0, goldens.cases[number].output_ids.size());
  ASSERT_TRUE(run(forced, fixture_options(fixture_directory(goldens.fixture_arguments), 256)));
  EXPECT_EQ(forced.num_steps, 256 * goldens.cases.size());
  EXPECT_LE(apart.max, fp32_tolerance(goldens));
  std::printf("%zu steps, %zu forced; difference at most %.2e, %.2e in the mean; allowed %.2e\n",
              forced.num_steps, forced.num_forced, apart.max, apart.mean(),
              fp32_tolerance(goldens));
}

TEST_P(Logits, WholeRowsInFp32) {
  const ParityGoldens goldens = read_parity_goldens(parity_data() + "/parity", GetParam());
  const Apart apart =
      compare_rows(goldens, fixture_options(fixture_directory(goldens.fixture_arguments), 256));
  EXPECT_LE(apart.max, fp32_tolerance(goldens));
}

// Sums of fewer bits differ with the kernel; those of the reference's two attention paths say how
// much. `max` and `mean`: times that.
void expect_within(const Apart& apart, const ParityGoldens::Paths& paths, double max, double mean) {
  const ParityGoldens::Spread &sdpa = paths.sdpa, &eager = paths.eager;
  std::printf("from fp32: %.4f at most, %.5f in the mean; sdpa %.4f, %.5f; eager %.4f, %.5f\n",
              apart.max, apart.mean(), sdpa.max, sdpa.mean, eager.max, eager.mean);
  EXPECT_GT(apart.mean(), 0.01 * std::max(sdpa.mean, eager.mean));  // it is no fp32
  EXPECT_LE(apart.max, max * std::max(sdpa.max, eager.max));
  EXPECT_LE(apart.mean(), mean * std::max(sdpa.mean, eager.mean));
}

TEST_P(Logits, WholeRowsInBf16) {
  const ParityGoldens goldens = read_parity_goldens(parity_data() + "/parity", GetParam());
  StartOptions options = fixture_options(fixture_directory(goldens.fixture_arguments), 256);
  options.dtype = Dtype::kBf16;
  const Apart apart = compare_rows(goldens, options);
  // Products of libtorch's matrix library, where the CPU has units for bf16, round in an order that
  // differs from CPU to CPU: theirs may be a little further away.
  const bool library = std::getenv("FACET_TEST_GPU") == nullptr && cpu_has_bf16();
  expect_within(apart, goldens.bf16, library ? 1.25 : 1.0, library ? 1.1 : 1.0);
}

// The reference's were computed on a CPU, whose fp16 products are not those of a GPU.
TEST_P(Logits, WholeRowsInFp16) {
  const ParityGoldens goldens = read_parity_goldens(parity_data() + "/parity", GetParam());
  StartOptions options = fixture_options(fixture_directory(goldens.fixture_arguments), 256);
  if (options.worker.gpus.empty()) GTEST_SKIP() << "fp16 is for GPUs";
  options.dtype = Dtype::kFp16;
  expect_within(compare_rows(goldens, options), goldens.fp16, 1.25, 1.1);
}

INSTANTIATE_TEST_SUITE_P(Shapes, Logits, ::testing::ValuesIn(fixture_shapes()));

}  // namespace
}  // namespace facet
