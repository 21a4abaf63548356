#include "worker/service/run_worker.h"

#include <spdlog/spdlog.h>

#include <string>

#include "common/base/clock.h"
#include "common/control/fds.h"
#include "common/log/log.h"
#include "worker/service/arguments.h"
#include "worker/service/broker_epoch.h"
#include "worker/service/image_gate.h"
#include "worker/service/page_writer.h"
#include "worker/service/process_life.h"
#include "worker/service/sentinels.h"
#include "worker/service/tokenize_mode.h"
#include "worker/service/worker_loop.h"

namespace facet {
namespace {

int report(const char* what, const Error& error, int exit_code) {
  spdlog::error("{} code={} error=\"{}\"", what, code_name(error.code), error.message);
  return exit_code;
}

// From the supervisor's fork on: an incarnation is the moment before it. One that lies long ago was
// given by hand.
Nanos started_at(std::uint64_t incarnation) {
  const auto age = static_cast<Nanos>(new_incarnation() - incarnation);
  return monotonic_now() - (age >= 0 && age < 60 * kSecond ? age : 0);
}

double seconds(Nanos nanos) {
  return static_cast<double>(nanos) / static_cast<double>(kSecond);
}

// "seconds=1.421 process=0.050 files=0.012 ..."
std::string words_of(const StartTimes& times) {
  std::string words = fmt::format("seconds={:.3f}", seconds(times.total()));
  for (const auto& [part, took] : times.parts())
    words += fmt::format(" {}={:.3f}", part, seconds(took));
  return words;
}

int load_failure_exit_code(Code code) {
  switch (code) {
    case Code::kInvalidArgument:
    case Code::kNotFound:
    case Code::kUnsupported:
    case Code::kTooLarge:
    case Code::kCorrupt:
      return kExitBadConfig;
    case Code::kExhausted:
      return kExitHostMemory;
    default:
      return kExitEngine;
  }
}

int serve(const WorkerArguments& arguments, const Config& config, PageWriter& page,
          MailboxReader& mailbox, const ImageGate& gate, const BrokerEpoch& epoch,
          const EngineFactory& factory) {
  // Before there is an engine its parts compute as in a step, but wait for compilers and captures.
  bool is_warming_up = true;
  const ProgressTick tick = [&](WorkerPhase phase) {
    page.tick(is_warming_up && phase != WorkerPhase::kLoad ? WorkerPhase::kWarmUp : phase);
  };
  tick(WorkerPhase::kLoad);
  StartTimes times(started_at(arguments.incarnation));
  times.mark("process");
  auto engine =
      factory({.config = config, .worker = arguments.worker, .tick = tick, .times = &times});
  if (!engine) {
    return report("engine_not_loaded", engine.error(), load_failure_exit_code(engine.error().code));
  }
  is_warming_up = false;
  spdlog::info("worker_ready worker={} incarnation={} model={} credits={} {}", arguments.worker,
               arguments.incarnation, (*engine)->facts().name, (*engine)->capacity(),
               words_of(times));
  WorkerLoop loop({arguments.worker, arguments.incarnation, arguments.socket_path}, **engine,
                  {gate, epoch, page, mailbox, kWorkerLifelineFd});
  return loop.run();
}

}  // namespace

int run_worker(int argc, char** argv, const EngineFactory& factory) {
  WorkerArguments arguments;
  if (auto exit_code = parse_arguments(argc, argv, arguments)) return *exit_code;
  if (!arguments.tokenize_dir.empty()) return tokenize_standard_input(arguments.tokenize_dir);

  auto config = load_config(arguments.config_path);
  if (!config) return report("bad_configuration", config.error(), kExitBadConfig);
  start_log(config->log, "facet-worker." + std::to_string(arguments.worker));
  if (auto status = bind_life_to_supervisor(kWorkerLifelineFd); !status) {
    return report("started_without_supervisor", status.error(), kExitUsage);
  }
  auto page = PageWriter::map(kWorkerPageFd, arguments.incarnation);
  if (!page) return report("no_worker_page", page.error(), kExitUsage);
  install_signal_handlers(arguments.worker, page->page(), kWorkerLastWordsFd);
  if (auto status = start_sentinels(kWorkerSentinelFds); !status) {
    if (status.error().code != Code::kUnsupported) {
      return report("no_sentinels", status.error(), kExitUsage);
    }
    spdlog::warn("no_sentinels error=\"{}\"", status.error().message);
  }
  auto gate = ImageGate::map(kWorkerRingFd);
  if (!gate) return report("no_ring", gate.error(), kExitUsage);
  auto epoch = BrokerEpoch::map(kWorkerBrokerPageFd);
  if (!epoch) return report("no_broker_page", epoch.error(), kExitUsage);
  auto mailbox = MailboxReader::attach(kWorkerMailboxFd, kWorkerDoorbellFd);
  if (!mailbox) return report("no_mailbox", mailbox.error(), kExitUsage);
  return serve(arguments, *config, *page, *mailbox, *gate, *epoch, factory);
}

}  // namespace facet
