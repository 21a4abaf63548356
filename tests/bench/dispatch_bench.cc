// From the broker's send of a dispatch to the worker that has decoded it, both idle before, next to
// an eventfd that wakes a process of its own. The two take turns.
//   dispatch_bench [count]
#include <sys/eventfd.h>
#include <sys/wait.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <zmq.hpp>

#include "broker/service/router.h"
#include "common/protocol/codec.h"
#include "tests/bench/bench_util.h"
#include "worker/service/broker_link.h"

namespace facet::bench {
namespace {

constexpr Nanos kIdle = 3 * kMillisecond;  // before each sample: everybody sleeps
constexpr const char* kIdentity = "0.1.1";

struct Shared {
  std::atomic<Nanos> sent;
  std::atomic<Nanos> seen;
};

void work(const std::string& path, Shared& shared) {
  int lifeline[2];
  FACET_CHECK(pipe(lifeline) == 0);
  auto link = BrokerLink::connect(path, kIdentity);
  FACET_CHECK(link.has_value());
  FACET_CHECK((*link)->send("hello").has_value());
  while (true) {
    (*link)->wait(kSecond / 2, lifeline[0]);
    while (auto message = (*link)->receive().value()) {
      FACET_CHECK(decode_worker_command(*message).has_value());
      shared.seen = monotonic_now();
    }
  }
}

void wake(int fd, Shared& shared) {
  std::uint64_t count = 0;
  while (read(fd, &count, sizeof count) == sizeof count) shared.seen = monotonic_now();
}

// One that takes longer than the pause is waited for.
double microseconds(Shared& shared) {
  pause_for(kIdle);
  while (shared.seen == 0) pause_for(kMillisecond);
  return static_cast<double>(shared.seen - shared.sent) / 1000;
}

void arm(Shared& shared) {
  shared.seen = 0;
  shared.sent = monotonic_now();
}

std::string dispatch_text() {
  Dispatch dispatch;
  dispatch.request.id = RequestId::random();
  dispatch.attempt = 1;
  dispatch.request.messages.push_back(
      {"user", {{ContentPart::Kind::kText, "What is in this picture?", 0}}});
  dispatch.request.sampling.max_tokens = 64;
  return encode_message(dispatch);
}

int run(int count) {
  const std::string path = "/tmp/facet-dispatch-bench-" + std::to_string(getpid());
  const int listener = listen_at(path);
  auto* link = shared<Shared>();
  auto* control = shared<Shared>();
  const int event = eventfd(0, EFD_CLOEXEC);
  const pid_t worker = start([&] { work(path, *link); });
  const pid_t waker = start([&] { wake(event, *control); });

  zmq::context_t context(1);
  auto router = Router::bind(context, {.listen_fd = listener, .socket_path = path,
                                       .receive_mark = 1000, .send_mark = 1000,
                                       .max_frame_bytes = 1 << 20, .max_connections = 16});
  FACET_CHECK(router.has_value());
  while (!(*router)->receive()) pause_for(kMillisecond);
  std::vector<double> dispatches, wakes;
  for (int i = 0; i < count; ++i) {
    pause_for(kIdle);
    arm(*link);
    FACET_CHECK((*router)->send(kIdentity, dispatch_text()) == Router::Sent::kYes);
    dispatches.push_back(microseconds(*link));
    pause_for(kIdle);
    arm(*control);
    const std::uint64_t one = 1;
    FACET_CHECK(write(event, &one, sizeof one) == sizeof one);
    wakes.push_back(microseconds(*control));
  }
  kill(worker, SIGKILL);
  kill(waker, SIGKILL);
  while (wait(nullptr) > 0) {
  }
  unlink(path.c_str());
  const double p50 = quantile(dispatches, 0.5), p99 = quantile(dispatches, 0.99);
  const double wake_p50 = quantile(wakes, 0.5), wake_p99 = quantile(wakes, 0.99);
  std::printf("{\"count\": %d, \"dispatch_p50_us\": %.1f, \"dispatch_p99_us\": %.1f, "
              "\"wake_p50_us\": %.1f, \"wake_p99_us\": %.1f, \"p50_ratio\": %.2f, "
              "\"p99_ratio\": %.2f}\n",
              count, p50, p99, wake_p50, wake_p99, p50 / wake_p50, p99 / wake_p99);
  return 0;
}

}  // namespace
}  // namespace facet::bench

int main(int argc, char** argv) {
  return facet::bench::run(argc > 1 ? std::max(1, std::atoi(argv[1])) : 1000);
}
