// Three workers, the last one three times slower, and clients that always have the same number of
// requests under way: the work that each worker gets, by policy, with the real core.
#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <map>

#include "tests/unit/core/core_fixture.h"

namespace facet {
namespace {

constexpr int kWorkers = 3;
constexpr int kLanes = 4;
constexpr int kInFlight = 36;  // more than all lanes, less than all credits
constexpr int kAnswers = 1400;
constexpr Nanos kStepTimes[kWorkers] = {kMillisecond, kMillisecond, 3 * kMillisecond};

class Share : public CoreFixture {
 protected:
  // Answers of each worker after many, the first ones left out.
  std::vector<int> answers_by_worker(DispatchPolicy policy) {
    limits.num_workers = kWorkers;
    limits.dispatch = policy;
    limits.record_ttl = 0;
    start();
    forget();
    for (std::uint32_t i = 0; i < kWorkers; ++i) worker_up(i, i + 1, kInFlight);
    for (int i = 0; i < kInFlight; ++i) ask();
    std::vector<int> answers(kWorkers);
    std::vector<Nanos> next(std::begin(kStepTimes), std::end(kStepTimes));
    for (Nanos& when : next) when += now;
    for (int done = 0; done < kAnswers;) {
      const auto worker = static_cast<std::size_t>(std::ranges::min_element(next) - next.begin());
      now = next[worker];
      next[worker] += kStepTimes[worker];
      const int ended = worker_step(static_cast<std::uint32_t>(worker));
      if (done > kAnswers / 7) answers[worker] += ended;
      done += ended;
      for (int i = 0; i < ended; ++i) ask();
    }
    return answers;
  }

 private:
  struct Sequence {
    RequestId id;
    std::uint32_t length = 0;
    std::uint32_t next = 0;
  };

  void ask() {
    GenerateRequest r = request(0);
    const std::uint32_t number = ++asked_;
    std::memcpy(r.id.bytes.data(), &number, sizeof number);
    // Ends of 8 to 24 tokens, of which the broker knows the bound only.
    r.sampling.max_tokens = 24;
    lengths_[r.id] = 8 + number * 7 % 17;
    generate(std::move(r));
    take_dispatches();
  }

  void take_dispatches() {
    for (const SendDispatch& sent : dispatches) {
      const RequestId& id = sent.dispatch.request.id;
      queues_[sent.worker].push_back({id, lengths_.at(id)});
      lengths_.erase(id);
    }
    forget();
  }

  // One token for each of the oldest kLanes sequences. Returns how many ended.
  int worker_step(std::uint32_t worker) {
    auto& queue = queues_[worker];
    if (queue.empty()) return 0;
    Step message;
    message.incarnation = worker + 1;
    message.num_running = std::min<std::uint32_t>(kLanes, static_cast<std::uint32_t>(queue.size()));
    int ended = 0;
    for (std::size_t lane = 0; lane < message.num_running; ++lane) {
      Sequence& sequence = queue[lane];
      SequenceUpdate u = update(0, 1, sequence.next, {static_cast<std::int32_t>(sequence.next)});
      u.id = sequence.id;
      u.ended = ++sequence.next == sequence.length;
      ended += u.ended;
      message.updates.push_back(std::move(u));
    }
    std::erase_if(queue, [](const Sequence& s) { return s.next == s.length; });
    step(WorkerStep{worker, std::move(message), ledger->epoch()});
    take_dispatches();
    return ended;
  }

  std::uint32_t asked_ = 0;
  std::map<RequestId, std::uint32_t> lengths_;
  std::array<std::deque<Sequence>, kWorkers> queues_;
};

void expect_shares(const std::vector<int>& answers, std::vector<double> ideal, double within) {
  const double sum = answers[0] + answers[1] + answers[2];
  const double whole = ideal[0] + ideal[1] + ideal[2];
  for (int i = 0; i < kWorkers; ++i) {
    const double share = answers[i] / sum;
    EXPECT_NEAR(share, ideal[i] / whole, within * ideal[i] / whole)
        << answers[0] << " : " << answers[1] << " : " << answers[2];
  }
}

TEST_F(Share, LeastLoadedIsNearTheIdeal) {
  expect_shares(answers_by_worker(DispatchPolicy::kLeastLoaded), {3, 3, 1}, 0.1);
}

TEST_F(Share, WeightedIsNearTheIdeal) {
  expect_shares(answers_by_worker(DispatchPolicy::kWeighted), {3, 3, 1}, 0.1);
  const CoreStatus status = core->status();
  EXPECT_NEAR(
      status.workers[0].sequence_tokens_per_second / status.workers[2].sequence_tokens_per_second,
      3.0, 0.2);
}

TEST_F(Share, PredictedTimeIsNearTheIdeal) {
  expect_shares(answers_by_worker(DispatchPolicy::kPredictedTime), {3, 3, 1}, 0.1);
}

TEST_F(Share, LeastConnectionsIsNearTheIdeal) {
  expect_shares(answers_by_worker(DispatchPolicy::kLeastConnections), {3, 3, 1}, 0.1);
}

// It does not see which worker is slow: all wait for that one.
TEST_F(Share, RoundRobinGivesAllTheSame) {
  expect_shares(answers_by_worker(DispatchPolicy::kRoundRobin), {1, 1, 1}, 0.1);
}

}  // namespace
}  // namespace facet
