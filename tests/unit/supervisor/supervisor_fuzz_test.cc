// Random deaths, hangs, failed starts and stop requests against the core; the world around it
// checks what must hold at every step (no two lives at once, order of packets, ...).
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "tests/unit/supervisor/supervisor_world.h"

namespace facet {
namespace {

class Chaos {
 public:
  explicit Chaos(unsigned seed) : random_(seed), world_(rules()) {}

  void run(int num_events) {
    for (int i = 0; i < num_events && !world_.left; ++i) one_event();
    settle();
  }
  int num_starts() const {
    int total = 0;
    for (const auto& [name, count] : world_.starts) total += count;
    return total;
  }

 private:
  static SupervisorRules rules() {
    SupervisorRules rules;
    rules.num_workers = 3;
    return rules;
  }
  std::uint32_t roll(std::uint32_t sides) { return static_cast<std::uint32_t>(random_()) % sides; }
  ChildEnd any_end() {
    static constexpr ChildEnd kEnds[] = {{true, SIGKILL}, {true, SIGSEGV}, {true, SIGABRT},
                                         {false, 0},      {false, 70},     {true, SIGTERM}};
    return kEnds[roll(6)];
  }
  void one_event() {
    world_.start_fails = roll(50) == 0;
    switch (roll(8)) {
      case 0:
        if (!world_.processes.empty() && roll(3) == 0) {
          const ChildId id =
              world_.processes[roll(static_cast<std::uint32_t>(world_.processes.size()))].id;
          if (id.role == Role::kDecoder) world_.decoder_children = roll(2) == 0;
          world_.exit(id.role, id.worker, any_end());
        }
        break;
      case 1:
        if (world_.is_running(Role::kBroker)) world_.broker_ready();
        break;
      case 2:
        if (world_.decoder_children && !world_.is_running(Role::kDecoder)) {
          world_.decoder_children = false;
          world_.feed(LifelineClosed{});
        }
        break;
      case 3:
        world_.obey(roll(2) == 0);
        break;
      case 4:
        if (world_.is_running(Role::kBroker)) {
          world_.feed(BrokerSaid{{.kind = static_cast<ControlKind>(32 + roll(5)),
                                  .worker = roll(4),
                                  .incarnation = some_incarnation()}});
        }
        world_.feed(BrokerSeen{roll(2) == 0});
        if (roll(8) == 0) {
          world_.feed(DeathSeen{{Role::kWorker, roll(4), some_incarnation()}, any_end()});
          world_.feed(LastWordsHeard{{Role::kWorker, roll(4), some_incarnation()},
                                     {roll(2) == 0 ? SIGSEGV : SIGABRT, 1, roll(2) == 0}});
        }
        break;
      case 5:
        if (roll(20) == 0) operate();
        if (roll(400) == 0) world_.feed(StopRequested{});
        break;
      default:
        world_.page(roll(3), static_cast<WorkerPhase>(roll(7)), roll(5), roll(2), roll(2) == 0,
                    roll(4) == 0);
        world_.pass(static_cast<Nanos>(roll(800)) * kMillisecond);
    }
  }
  void operate() {
    using K = OperatorKind;
    static constexpr K kKinds[] = {K::kRestartRolling, K::kRestartWorker, K::kCancelDrain,
                                   static_cast<K>(99)};
    const K kind = roll(40) == 0 ? K::kDrain : kKinds[roll(4)];
    world_.ask(kind, roll(4), roll(2) == 0 ? std::optional<Nanos>() : roll(20) * kSecond);
    if (world_.left) return;  // drained before anything had started
    if (kind == K::kDrain && roll(2) == 0) world_.ask(K::kCancelDrain);
    if (roll(4) == 0) {
      SupervisorRules changed = rules();
      changed.drain = roll(30) * kSecond;
      world_.feed(ConfigChanged{changed, ++generation_, roll(2) == 0});
    }
  }
  // What must not outlast a life of the daemon: nobody waits for an answer.
  void expect_all_answered() {
    for (std::uint64_t client = 1; client <= world_.last_operator; ++client) {
      EXPECT_TRUE(world_.answer_to(client)) << "operator " << client;
    }
  }
  std::uint64_t some_incarnation() {
    return world_.processes.empty() || roll(4) == 0
               ? roll(100)
               : world_.processes[roll(static_cast<std::uint32_t>(world_.processes.size()))]
                     .id.incarnation;
  }
  // Left alone, it comes back to full service; told to stop, it leaves.
  void settle() {
    world_.start_fails = false;
    world_.decoder_children = false;
    for (int i = 0; i < 400 && !world_.left; ++i) {
      world_.obey();
      if (!world_.is_running(Role::kDecoder)) world_.feed(LifelineClosed{});
      if (world_.is_running(Role::kBroker)) world_.broker_ready();
      for (std::uint32_t w = 0; w < 3; ++w) {
        world_.page(w, WorkerPhase::kDecode, static_cast<std::uint64_t>(i) + 9, 1, true);
      }
      world_.pass(kSecond / 2);
    }
    if (!world_.core.is_stopping()) {
      EXPECT_EQ(world_.processes.size(), 5u);
      EXPECT_EQ(world_.core.num_ready(), 3u);
      world_.feed(StopRequested{});
    }
    if (world_.is_running(Role::kBroker)) world_.exit(Role::kBroker, 0, {false, 0});
    world_.pass(40 * kSecond);
    world_.obey(true);
    world_.pass(10 * kSecond);
    EXPECT_TRUE(world_.left);
    expect_all_answered();
  }

  std::uint32_t generation_ = 1;
  std::mt19937 random_;
  SupervisorWorld world_;
};

TEST(SupervisorChaos, HoldsItsInvariants) {
  const char* given = std::getenv("FACET_SEED");
  const unsigned first = given == nullptr ? std::random_device{}()
                                          : static_cast<unsigned>(std::strtoul(given, nullptr, 10));
  int starts = 0;
  for (unsigned seed = first; seed < first + 500 && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Chaos chaos(seed);
    chaos.run(1000);
    starts += chaos.num_starts();
  }
  std::printf("first seed %u, 500000 events, %d starts\n", first, starts);
}

}  // namespace
}  // namespace facet
