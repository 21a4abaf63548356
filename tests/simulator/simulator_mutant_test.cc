// Linked with a core in which one rule at a time can be broken. Each loss must be found within a
// bounded number of lives, or the simulator is blind to it. FACET_RULE=name tries one alone,
// FACET_FIRST_SEED=n begins elsewhere.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>

#include "broker/core/rules.h"
#include "tests/simulator/sim_shrink.h"

namespace facet::sim {
namespace {

constexpr std::uint64_t kMostLives = 300;  // most need a few; a few need a rare meeting
constexpr std::uint64_t kEventsPerLife = 20'000;
constexpr int kNotFound = 2;  // exit codes of the child
constexpr int kBrokenTest = 3;

struct Mutant {
  Rule rule;
  const char* name;
  std::uint64_t known_seed = 1;  // tried first: the search from 1 on found it there
};

constexpr Mutant kMutants[] = {
    {Rule::kIncarnationFence, "incarnation_fence", 4},
    {Rule::kAttemptFence, "attempt_fence", 7},
    {Rule::kFence, "fence", 4},
    {Rule::kIndexFence, "index_fence", 4},
    {Rule::kLastHolderFrees, "last_holder_frees"},
    {Rule::kFreeAfterReap, "free_after_reap", 6},
    {Rule::kPixelsHeldAtWorker, "pixels_held_at_worker"},
    {Rule::kCommittedCarried, "committed_carried"},
    {Rule::kLedgerBeforeClient, "ledger_before_client", 33},
    {Rule::kOldestWaiterFirst, "oldest_waiter_first", 12},
    {Rule::kCredits, "credits", 2},
    {Rule::kStrikes, "strikes"},
    {Rule::kSuspectAlone, "suspect_alone"},
    {Rule::kSoloDeathConvicts, "solo_death_convicts"},
    {Rule::kDoneOnce, "done_once"},
    {Rule::kDeadline, "deadline", 2},
    {Rule::kUploadFreed, "upload_freed", 5},
    {Rule::kDecodeReplyFence, "decode_reply_fence", 2},
    {Rule::kBlockedRewinds, "blocked_rewinds"},
    {Rule::kQuotaGivenBack, "quota_given_back"},
    {Rule::kEpochFence, "epoch_fence", 11},
    {Rule::kResumeFrom, "resume_from", 2},
    {Rule::kLostSentAgain, "lost_sent_again", 11},
    {Rule::kFormerHold, "former_hold", 2},
    {Rule::kUnwantedHold, "unwanted_hold", 23},
    {Rule::kSoloKept, "solo_kept", 2},
    {Rule::kVerdictsKept, "verdicts_kept", 83},
    {Rule::kAckCommitted, "ack_committed", 40},
};

// Says on `out` what is tried, for the case that the core aborts.
std::optional<Failure> try_life(std::FILE* out, std::uint64_t seed) {
  std::fprintf(out, "seed %llu: the core aborts\n", static_cast<unsigned long long>(seed));
  std::fflush(out);
  return run_life(SimOptions::from_seed(seed, kEventsPerLife));
}

// The first life that fails.
std::optional<Failure> first_failure(std::FILE* out, std::uint64_t known_seed) {
  const char* first = std::getenv("FACET_FIRST_SEED");
  const std::uint64_t start = first == nullptr ? 1 : std::strtoull(first, nullptr, 10);
  if (first == nullptr) {
    if (auto failure = try_life(out, known_seed)) return failure;
  }
  for (std::uint64_t seed = start; seed < start + kMostLives; ++seed) {
    if (auto failure = try_life(out, seed)) return failure;
  }
  return std::nullopt;
}

// In a child of its own: a core with a broken rule may well stop at one of its own checks.
[[noreturn]] void run_child(const Mutant& mutant, int result) {
  broken_rule = {mutant.rule, true};
  std::FILE* out = fdopen(result, "w");
  if (freopen("/dev/null", "w", stderr) == nullptr) _exit(kBrokenTest);
  const auto failure = first_failure(out, mutant.known_seed);
  if (failure) {
    std::fprintf(out, "seed %llu after %llu events: %s\n",
                 static_cast<unsigned long long>(failure->options.seed),
                 static_cast<unsigned long long>(failure->num_events), failure->violation.c_str());
  }
  std::fclose(out);
  _exit(failure ? 0 : kNotFound);
}

// How it was found; empty when it was not.
std::string find(const Mutant& mutant) {
  int ends[2];
  if (pipe(ends) != 0) return {};
  std::cout.flush();
  const pid_t child = fork();
  if (child == 0) {
    close(ends[0]);
    run_child(mutant, ends[1]);
  }
  close(ends[1]);
  std::FILE* in = fdopen(ends[0], "r");
  std::string last;
  char line[1024];
  while (std::fgets(line, sizeof line, in) != nullptr) last = line;
  std::fclose(in);
  int status = 0;
  waitpid(child, &status, 0);
  if (!last.empty()) last.pop_back();
  // Ended by a signal or by a sanitizer's own exit code: found as well.
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
  return code == kNotFound || code == kBrokenTest ? std::string() : last;
}

TEST(SimulatorMutants, EveryBrokenRuleIsFound) {
  const char* only = std::getenv("FACET_RULE");
  for (const Mutant& mutant : kMutants) {
    if (only != nullptr && std::string(only) != mutant.name) continue;
    const std::string how = find(mutant);
    EXPECT_FALSE(how.empty()) << mutant.name << ": " << kMostLives << " lives found nothing";
    std::cout << mutant.name << ": " << (how.empty() ? "NOT FOUND" : how) << std::endl;
  }
}

TEST(SimulatorMutants, AFailingLifeShrinks) {
  broken_rule = {Rule::kIndexFence, true};
  SimOptions hostile = SimOptions::from_seed(1, kEventsPerLife);
  hostile.num_workers = 4;
  hostile.num_clients = 6;
  hostile.requests_per_client = 24;
  hostile.duplicate_chance = 0.2;
  hostile.crash_rate = 2.0;
  auto failure = run_life(hostile);
  ASSERT_TRUE(failure.has_value());
  const std::uint64_t before = failure->num_events;
  const Failure small = shrink(std::move(*failure));
  std::cout << before << " events, shrunk to " << small.num_events << ": "
            << describe(small.options) << "\n"
            << small.violation << std::endl;
  EXPECT_LE(small.num_events, before);
  EXPECT_EQ(small.options.num_clients, 1u);
  EXPECT_EQ(small.options.num_workers, 1u);
  EXPECT_EQ(small.options.broker_crash_rate, 0.0);
  EXPECT_GT(small.options.duplicate_chance, 0.0);  // what it takes
  // The text alone replays it.
  const auto read = parse_options(describe(small.options));
  ASSERT_TRUE(read.has_value());
  const auto again = run_life(*read);
  broken_rule = {};
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->violation, small.violation);
  EXPECT_EQ(again->num_events, small.num_events);
}

TEST(SimulatorMutants, OptionsThatCannotBeReadAreRefused) {
  EXPECT_TRUE(parse_options("seed=4 crash_rate=0.5 own_faults=1").has_value());
  EXPECT_FALSE(parse_options("seed").has_value());
  EXPECT_FALSE(parse_options("speed=4").has_value());
  EXPECT_FALSE(parse_options("seed=4x").has_value());
}

}  // namespace
}  // namespace facet::sim
