// From the broker's decision to dispatch, with all that its port does to send it, to the worker
// that has the message, and has decoded it; both asleep before. Next to it an eventfd that wakes a
// process of its own. The two take turns.
//   dispatch_bench [count]
#include <sys/eventfd.h>
#include <sys/wait.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <zmq.hpp>

#include "broker/service/worker_port.h"
#include "common/protocol/codec.h"
#include "common/protocol/limits.h"
#include "tests/bench/bench_util.h"
#include "tests/unit/protocol/dispatch_order.h"
#include "worker/service/mail_wait.h"

namespace facet::bench {
namespace {

constexpr Nanos kIdle = 3 * kMillisecond;  // before each sample: everybody sleeps
constexpr WorkerIdentity kWorker{.worker = 0, .incarnation = 1, .epoch = 1};

struct Shared {
  std::atomic<Nanos> sent;
  std::atomic<Nanos> received;  // the message's bytes are the worker's
  std::atomic<Nanos> seen;      // decoded; what wakes alone has this only
};

void work(const std::string& path, const MailboxFds& fds, Shared& shared) {
  int lifeline[2];
  FACET_CHECK(pipe(lifeline) == 0);
  auto mailbox = MailboxReader::attach(fds.memory.get(), fds.doorbell.get());
  auto link = BrokerLink::connect(path, format_worker_identity(kWorker));
  FACET_CHECK(mailbox.has_value() && link.has_value());
  Hello hello;
  hello.worker = kWorker.worker;
  hello.incarnation = kWorker.incarnation;
  hello.credits = 1;
  FACET_CHECK((*link)->send(encode_message(hello)).has_value());
  while (true) {
    wait_for_mail(*mailbox, link->get(), lifeline[0], kSecond / 2);
    while (auto message = mailbox->receive(kWorker.epoch, kMaxWorkerMapBytes).value()) {
      shared.received = monotonic_now();
      FACET_CHECK(decode_worker_command(*message).has_value());
      shared.seen = monotonic_now();
    }
  }
}

void wake(int fd, Shared& shared) {
  std::uint64_t count = 0;
  while (read(fd, &count, sizeof count) == sizeof count) shared.seen = monotonic_now();
}

double microseconds(Nanos from, Nanos to) {
  return static_cast<double>(to - from) / 1000;
}

// One that takes longer than the pause is waited for.
void wait_until_seen(const Shared& shared) {
  pause_for(kIdle);
  while (shared.seen == 0) pause_for(kMillisecond);
}

void arm(Shared& shared) {
  pause_for(kIdle);
  shared.seen = 0;
  shared.sent = monotonic_now();
}

SendDispatch make_dispatch() {
  Dispatch dispatch;
  dispatch.request.id = RequestId::random();
  dispatch.attempt = 1;
  dispatch.request.messages.push_back(
      {"user", {{ContentPart::Kind::kText, "What is in this picture?", 0}}});
  dispatch.request.sampling.max_tokens = 64;
  return {kWorker.worker, kWorker.incarnation, order_of(dispatch)};
}

struct Samples {
  std::vector<double> dispatches, decoded, wakes;
};

void report(int count, Samples& samples) {
  const double wake_p50 = quantile(samples.wakes, 0.5), wake_p99 = quantile(samples.wakes, 0.99);
  const double p50 = quantile(samples.dispatches, 0.5), p99 = quantile(samples.dispatches, 0.99);
  const double decoded_p50 = quantile(samples.decoded, 0.5);
  const double decoded_p99 = quantile(samples.decoded, 0.99);
  std::printf(
      "{\"count\": %d, \"dispatch_p50_us\": %.1f, \"dispatch_p99_us\": %.1f, "
      "\"decoded_p50_us\": %.1f, \"decoded_p99_us\": %.1f, \"wake_p50_us\": %.1f, "
      "\"wake_p99_us\": %.1f, \"p50_ratio\": %.2f, \"p99_ratio\": %.2f, "
      "\"decoded_p50_ratio\": %.2f, \"decoded_p99_ratio\": %.2f}\n",
      count, p50, p99, decoded_p50, decoded_p99, wake_p50, wake_p99, p50 / wake_p50, p99 / wake_p99,
      decoded_p50 / wake_p50, decoded_p99 / wake_p99);
}

int run(int count) {
  const std::string path = "/tmp/facet-dispatch-bench-" + std::to_string(getpid());
  const UniqueFd listener = listen_at(path, 16);
  auto* link = shared<Shared>();
  auto* control = shared<Shared>();
  const int event = eventfd(0, EFD_CLOEXEC);
  MailboxFds mailbox = create_mailbox().value();
  const pid_t worker = start([&] { work(path, mailbox, *link); });
  const pid_t waker = start([&] { wake(event, *control); });

  zmq::context_t context(1);
  auto router = Router::bind(context, {.listen_fd = listener.get(),
                                       .socket_path = path,
                                       .receive_mark = 1000,
                                       .send_mark = 1000,
                                       .max_frame_bytes = 1 << 20,
                                       .max_connections = 16});
  FACET_CHECK(router.has_value());
  WorkerPort port(**router, 1, kWorker.epoch);
  port.open(kWorker.worker, kWorker.incarnation, std::move(mailbox));
  std::optional<Event> hello;
  while (!port.receive(hello)) pause_for(kMillisecond);
  FACET_CHECK(hello.has_value());
  Samples samples;
  for (int i = 0; i < count; ++i) {
    const SendDispatch dispatch = make_dispatch();
    arm(*link);
    FACET_CHECK(!port.send(dispatch, monotonic_now()).has_value());
    wait_until_seen(*link);
    samples.dispatches.push_back(microseconds(link->sent, link->received));
    samples.decoded.push_back(microseconds(link->sent, link->seen));
    arm(*control);
    const std::uint64_t one = 1;
    FACET_CHECK(write(event, &one, sizeof one) == sizeof one);
    wait_until_seen(*control);
    samples.wakes.push_back(microseconds(control->sent, control->seen));
  }
  kill(worker, SIGKILL);
  kill(waker, SIGKILL);
  while (wait(nullptr) > 0) {
  }
  unlink(path.c_str());
  report(count, samples);
  return 0;
}

}  // namespace
}  // namespace facet::bench

int main(int argc, char** argv) {
  return facet::bench::run(argc > 1 ? std::max(1, std::atoi(argv[1])) : 1000);
}
