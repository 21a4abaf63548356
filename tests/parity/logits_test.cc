// Logits against transformers 5.17.0, teacher-forced: where the engine's token is not the
// reference's (two best logits too close to tell), the sequence goes on from the reference's.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <deque>

#include "tests/parity/fixture.h"
#include "tests/parity/golden_cases.h"

namespace facet {
namespace {

// Two sums of the same numbers in other orders: what the reference's own two attention paths are
// apart, doubled, and the rounding of the stored values.
double fp32_tolerance(const ParityGoldens& goldens) {
  return 2.0 * goldens.sdpa_max_difference + 2e-5;
}

class ForcedRun {
 public:
  using Check = std::function<void(std::size_t number, std::size_t step, std::span<const float>)>;

  // `options.logits_tap` is set here.
  ForcedRun(const ParityGoldens& goldens, StartOptions options, Check check)
      : goldens_(goldens), shelf_(parity_data()), check_(std::move(check)) {
    options.logits_tap = [this](std::span<const float> row) {
      rows_.emplace_back(row.begin(), row.end());
    };
    engine_ = start_fixture(options);
  }

  bool started() const { return engine_ != nullptr; }

  // Logits of the steps [first, end) of a case, once run() is called.
  void add(std::size_t number, std::size_t first, std::size_t end) {
    start({number, first, spec_of(goldens_.cases[number], end, shelf_)});
  }

  void run() {
    while (engine_->has_work()) {
      const auto updates = engine_->step();
      ASSERT_TRUE(updates) << updates.error().message;
      for (const SequenceUpdate& update : *updates) take(update);
    }
    EXPECT_TRUE(rows_.empty());
    EXPECT_TRUE(held_.empty());
  }

  std::size_t num_forced = 0;  // times that a sequence was put back on the reference's way
  std::size_t num_steps = 0;

 private:
  struct Held {
    std::size_t number = 0;
    std::size_t step = 0;  // of the next token
    SequenceSpec spec;
  };

  void start(Held held) {
    const auto& ids = goldens_.cases[held.number].output_ids;
    held.spec.committed.assign(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(held.step));
    const Status added = engine_->add(held.spec);
    ASSERT_TRUE(added) << added.error().message;
    held_.push_back(std::move(held));
  }

  void take(const SequenceUpdate& update) {
    const auto at = std::find_if(held_.begin(), held_.end(), [&](const Held& held) {
      return held.spec.id == update.id && held.spec.attempt == update.attempt;
    });
    const bool dropped = at == held_.end();  // on a wrong way, and cancelled
    for (const std::int32_t token : update.token_ids) {
      ASSERT_FALSE(rows_.empty());
      const std::vector<float> row = std::move(rows_.front());
      rows_.pop_front();
      ASSERT_EQ(std::max_element(row.begin(), row.end()) - row.begin(), token);
      if (!dropped) take_token(*at, token, row);
    }
    if (update.ended && !dropped && at->spec.attempt == update.attempt) held_.erase(at);
  }

  void take_token(Held& held, std::int32_t token, const std::vector<float>& row) {
    const ParityGoldens::Case& golden = goldens_.cases[held.number];
    ++num_steps;
    check_(held.number, held.step, row);
    const std::int32_t wanted = golden.output_ids[held.step++];
    if (token == wanted) return;
    ++num_forced;
    if (held.step == held.spec.request.sampling.max_tokens) return;  // it ends all the same
    engine_->cancel(held.spec.id, held.spec.attempt);
    Held again = held;
    ++again.spec.attempt;
    std::erase_if(held_, [&](const Held& h) { return h.spec.id == again.spec.id; });
    start(std::move(again));
  }

  const ParityGoldens& goldens_;
  ImageShelf shelf_;
  Check check_;
  std::unique_ptr<Engine> engine_;
  std::deque<std::vector<float>> rows_;
  std::deque<Held> held_;  // a reference to one stays good while others are added
};

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
  ForcedRun forced(
      goldens, options, [&](std::size_t number, std::size_t step, std::span<const float> logits) {
        const auto kept = std::find(goldens.row_steps.begin(), goldens.row_steps.end(), step);
        ASSERT_NE(kept, goldens.row_steps.end());
        const auto wanted =
            goldens.row(number, static_cast<std::size_t>(kept - goldens.row_steps.begin()));
        ASSERT_EQ(logits.size(), wanted.size());
        for (std::size_t i = 0; i < wanted.size(); ++i)
          apart.add(static_cast<double>(logits[i]) - static_cast<double>(wanted[i]));
      });
  EXPECT_TRUE(forced.started());
  if (!forced.started()) return apart;
  for (std::size_t number = 0; number < goldens.row_cases; ++number)
    for (const std::size_t step : goldens.row_steps) forced.add(number, step, step + 1);
  forced.run();
  EXPECT_EQ(forced.num_steps, goldens.row_cases * goldens.row_steps.size());
  return apart;
}

class Logits : public ::testing::TestWithParam<const char*> {};

TEST_P(Logits, EveryStepOfEveryPromptInFp32) {
  const ParityGoldens goldens = read_parity_goldens(parity_data() + "/parity", GetParam());
  StartOptions options = fixture_options(fixture_directory(goldens.fixture_arguments), 256);
  Apart apart;
  ForcedRun forced(
      goldens, options, [&](std::size_t number, std::size_t step, std::span<const float> logits) {
        const auto chosen = static_cast<std::size_t>(goldens.cases[number].output_ids[step]);
        apart.add(logits[chosen] - goldens.chosen_logit(number, step));
        apart.add(logits[goldens.probe_token(step)] - goldens.probe_logit(number, step));
      });
  ASSERT_TRUE(forced.started());
  for (std::size_t number = 0; number < goldens.cases.size(); ++number)
    forced.add(number, 0, goldens.cases[number].output_ids.size());
  forced.run();
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

// bf16 sums differ with the kernel; those of the reference's two attention paths say how much.
TEST_P(Logits, WholeRowsInBf16) {
  const ParityGoldens goldens = read_parity_goldens(parity_data() + "/parity", GetParam());
  StartOptions options = fixture_options(fixture_directory(goldens.fixture_arguments), 256);
  options.dtype = Dtype::kBf16;
  const Apart apart = compare_rows(goldens, options);
  const double max = std::max(goldens.bf16_sdpa.max, goldens.bf16_eager.max);
  const double mean = std::max(goldens.bf16_sdpa.mean, goldens.bf16_eager.mean);
  std::printf("from fp32: %.4f at most, %.5f in the mean; sdpa %.4f, %.5f; eager %.4f, %.5f\n",
              apart.max, apart.mean(), goldens.bf16_sdpa.max, goldens.bf16_sdpa.mean,
              goldens.bf16_eager.max, goldens.bf16_eager.mean);
  EXPECT_GT(apart.mean(), 0.01 * mean);  // it is bf16
  EXPECT_LE(apart.max, max);
  EXPECT_LE(apart.mean(), mean);
}

INSTANTIATE_TEST_SUITE_P(Shapes, Logits, ::testing::Values("hard", "plain"));

}  // namespace
}  // namespace facet
