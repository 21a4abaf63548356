// Three workers of unequal speed, and clients that always have the same number of requests under
// way: the tokens that each worker makes, by policy, with the real core in virtual time. Ideal:
// each makes as many as it can.
#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <map>
#include <random>
#include <tuple>

#include "tests/unit/core/core_fixture.h"

namespace facet {
namespace {

constexpr int kWorkers = 3;
constexpr int kLanes = 4;
constexpr int kInFlight = 36;  // more than all lanes, less than all credits
constexpr int kAnswers = 1400;
constexpr DispatchPolicy kByLoadOrSpeed[] = {
    DispatchPolicy::kLeastLoaded, DispatchPolicy::kLeastConnections, DispatchPolicy::kWeighted,
    DispatchPolicy::kPredictedTime};

// How long the workers take for a step: so much, and up to `late` more each time.
struct Host {
  std::array<Nanos, kWorkers> step;
  Nanos late = 0;

  std::vector<double> speeds() const {
    std::vector<double> found;
    for (const Nanos time : step) {
      found.push_back(kLanes / (static_cast<double>(time) + static_cast<double>(late) / 2));
    }
    return found;
  }
};

constexpr Host kOneSlow{{kMillisecond, kMillisecond, 3 * kMillisecond}};
constexpr Host kHosts[] = {
    kOneSlow,
    {{kMillisecond, kMillisecond, 3 * kMillisecond}, kMillisecond},  // busy with other things, too
    {{kMillisecond, 2 * kMillisecond, 4 * kMillisecond}},
    {{kMillisecond, kMillisecond, kMillisecond}},
};

class Share : public CoreFixture {
 protected:
  // Tokens of each worker over many answers, the first ones left out.
  std::vector<int> tokens_by_worker(DispatchPolicy policy, const Host& host) {
    std::minstd_rand random(7);
    limits.num_workers = kWorkers;
    limits.dispatch = policy;
    limits.worker_lanes = kLanes;
    limits.record_ttl = 0;
    start();
    forget();
    for (std::uint32_t i = 0; i < kWorkers; ++i) worker_up(i, i + 1, kInFlight);
    for (int i = 0; i < in_flight_; ++i) ask();
    std::vector<int> tokens(kWorkers);
    std::vector<Nanos> next(host.step.begin(), host.step.end());
    for (Nanos& when : next) when += now;
    for (int done = 0; done < kAnswers;) {
      const auto worker = static_cast<std::size_t>(std::ranges::min_element(next) - next.begin());
      now = next[worker];
      next[worker] += host.step[worker];
      if (host.late > 0) next[worker] += static_cast<Nanos>(random()) % host.late;
      if (done > kAnswers / 7) {
        lanes_ += kLanes;
        tokens[worker] += static_cast<int>(std::min<std::size_t>(kLanes, queues_[worker].size()));
      }
      const int ended = worker_step(static_cast<std::uint32_t>(worker));
      done += ended;
      for (int i = 0; i < ended; ++i) ask();
    }
    return tokens;
  }

  int in_flight_ = kInFlight;
  std::uint32_t shortest_ = 8;
  int lanes_ = 0;  // that there were in the steps whose tokens were counted

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
    // Ends of `shortest_` to 24 tokens, of which the broker knows the bound only.
    r.sampling.max_tokens = 24;
    lengths_[r.id] = shortest_ + number * 7 % (25 - shortest_);
    generate(std::move(r));
    take_dispatches();
  }

  void take_dispatches() {
    for (const SendDispatch& sent : dispatches) {
      const RequestId& id = sent.dispatch.id;
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

void expect_shares(const std::vector<int>& tokens, const std::vector<double>& ideal) {
  const double sum = tokens[0] + tokens[1] + tokens[2];
  const double whole = ideal[0] + ideal[1] + ideal[2];
  for (std::size_t i = 0; i < kWorkers; ++i) {
    const double share = tokens[i] / sum;
    EXPECT_NEAR(share, ideal[i] / whole, 0.1 * ideal[i] / whole)
        << tokens[0] << " : " << tokens[1] << " : " << tokens[2];
  }
}

class ShareByLoadOrSpeed : public Share,
                           public testing::WithParamInterface<std::tuple<DispatchPolicy, Host>> {};

TEST_P(ShareByLoadOrSpeed, IsNearTheIdeal) {
  const auto& [policy, host] = GetParam();
  expect_shares(tokens_by_worker(policy, host), host.speeds());
}

INSTANTIATE_TEST_SUITE_P(Policies, ShareByLoadOrSpeed,
                         testing::Combine(testing::ValuesIn(kByLoadOrSpeed),
                                          testing::ValuesIn(kHosts)));

TEST_F(Share, SpeedsAreMeasured) {
  tokens_by_worker(DispatchPolicy::kWeighted, kOneSlow);
  const CoreStatus status = core->status();
  EXPECT_NEAR(
      status.workers[0].sequence_tokens_per_second / status.workers[2].sequence_tokens_per_second,
      3.0, 0.2);
}

// As many requests as lanes, all of one length: each worker's end at the same moment, and their
// successors come while another's are about to end and have fewer tokens left.
TEST_F(Share, NoLaneIsEmptyWhileAnotherWorkersAreWaitedFor) {
  in_flight_ = kWorkers * kLanes;
  shortest_ = 24;
  constexpr Host kOutOfStep{{kMillisecond, kMillisecond, kMillisecond}, kMillisecond};
  const auto tokens = tokens_by_worker(DispatchPolicy::kLeastLoaded, kOutOfStep);
  EXPECT_EQ(tokens[0] + tokens[1] + tokens[2], lanes_);
}

TEST_F(Share, NorWithAnswersOfAllLengths) {
  in_flight_ = kWorkers * kLanes;
  const auto tokens = tokens_by_worker(DispatchPolicy::kLeastLoaded, kHosts[1]);
  EXPECT_EQ(tokens[0] + tokens[1] + tokens[2], lanes_);
}

// It does not see which worker is slow: all wait for that one.
TEST_F(Share, RoundRobinGivesAllTheSame) {
  expect_shares(tokens_by_worker(DispatchPolicy::kRoundRobin, kOneSlow), {1, 1, 1});
}

}  // namespace
}  // namespace facet
