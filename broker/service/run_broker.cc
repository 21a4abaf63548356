#include "broker/service/run_broker.h"

#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <optional>
#include <string>
#include <utility>

#include "broker/core/broker_core.h"
#include "broker/decoder/image_header.h"
#include "broker/service/broker_service.h"
#include "broker/service/control_channel.h"
#include "broker/service/fatal_signals.h"
#include "broker/service/memory_limit.h"
#include "broker/service/router.h"
#include "broker/service/service_limits.h"
#include "common/control/descriptor_needs.h"
#include "common/control/fds.h"
#include "common/log/log.h"
#include "common/protocol/codec.h"
#include "common/shm/ledger.h"
#include "common/shm/ring.h"
#include "common/shm/shared_region.h"

namespace facet {
namespace {

constexpr const char* kVersion = "0.1.0";

struct Arguments {
  std::string config_path;
  std::uint32_t num_workers = 0;  // 0: as the configuration says
  std::uint32_t generation = 1;   // of the configuration
  std::string fd_socket;          // what kBrokerFdListenFd listens on; empty: there is none
};

std::optional<int> parse_arguments(int argc, char** argv, Arguments& arguments) {
  CLI::App app("The broker of Facet. Started by facetd, which hands it descriptors.");
  app.add_option("--config", arguments.config_path, "configuration, TOML")->required();
  app.add_option("--workers", arguments.num_workers, "workers that facetd runs");
  app.add_option("--generation", arguments.generation, "how often facetd has changed FILE, and 1");
  app.add_option("--fd-socket", arguments.fd_socket, "where clients hand over descriptors");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  return std::nullopt;
}

// ZeroMQ ends the process when a listener finds no free descriptor: allows as many as may be, and
// returns how many clients may be connected.
int raise_descriptor_limit(int max_clients) {
  rlimit limit{};
  const int wanted = max_clients + kMaxUnknownConnections + kReservedDescriptors;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return max_clients;
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, static_cast<rlim_t>(wanted));
  setrlimit(RLIMIT_NOFILE, &limit);
  return static_cast<int>(limit.rlim_cur) - kReservedDescriptors;
}

Status bind_life_to_supervisor() {
  std::signal(SIGINT, SIG_IGN);  // a terminal sends it to the whole group; the supervisor drains
  std::signal(SIGPIPE, SIG_IGN);
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return errno_error("PR_SET_PDEATHSIG", errno);
  return {};  // should the supervisor have died before: the control socket says so
}

CoreSeams core_seams(const Config& config) {
  const ImageLimits limits{
      .max_side = static_cast<std::uint32_t>(config.broker.max_image_side),
      .max_pixels = static_cast<std::uint64_t>(config.broker.max_image_pixels)};
  CoreSeams seams;
  seams.probe_image = [limits](std::span<const std::uint8_t> encoded) -> Result<ProbedImage> {
    const ImageInfo info = FACET_TRY(read_image_header(encoded, limits));
    return ProbedImage{static_cast<std::uint32_t>(info.format), info.width, info.height};
  };
  seams.parse_request = [](std::string_view body) { return decode_request_body(body); };
  return seams;
}

Router::Options client_options(const Config& config) {
  return {.listen_fd = kBrokerClientListenFd,
          .socket_path = config.broker.socket,
          .receive_mark = kClientReceiveMark,
          .send_mark = kClientSendMark,
          .max_frame_bytes = kMaxClientFrameBytes,
          .max_connections = raise_descriptor_limit(config.broker.max_clients)};
}

Router::Options worker_options(const Config& config) {
  return {.listen_fd = kBrokerWorkerListenFd,
          .socket_path = config.broker.runtime_dir + "/workers.sock",
          .receive_mark = kWorkerMark,
          .send_mark = kWorkerMark,
          .max_frame_bytes = kMaxWorkerFrameBytes,
          .max_connections = kMaxWorkerConnections};
}

// Everything that can fail before the loop; the loop itself returns the exit code.
Result<int> serve(const Config& config, const Arguments& arguments, std::uint32_t num_workers) {
  MappedRegion ring_region =
      FACET_TRY(MappedRegion::map(kBrokerRingFd, MapAccess::kReadWrite));
  MappedRegion ledger_region =
      FACET_TRY(MappedRegion::map(kBrokerLedgerFd, MapAccess::kReadWrite));
  LedgerWriter ledger = FACET_TRY(LedgerWriter::attach(ledger_region.writable_bytes()));
  blame_record_in_hand(ledger.handling_word());
  RingWriter ring = FACET_TRY(RingWriter::attach(ring_region.writable_bytes(), ledger.epoch()));
  BrokerCore core(core_limits(config, num_workers), core_seams(config), ring, ledger);

  FACET_TRY_STATUS(limit_memory(config.broker.memory_bytes));
  zmq::context_t context(1);
  auto clients = FACET_TRY(Router::bind(context, client_options(config)));
  auto workers = FACET_TRY(Router::bind(context, worker_options(config)));
  ControlChannel control(kBrokerControlFd);
  spdlog::info("broker_ready epoch={} workers={} socket={}", ledger.epoch(), num_workers,
               config.broker.socket);
  BrokerService service({.core = core,
                         .client_router = *clients,
                         .worker_router = *workers,
                         .control = control,
                         .fd_listener = arguments.fd_socket.empty() ? -1 : kBrokerFdListenFd,
                         .num_workers = num_workers,
                         .epoch = ledger.epoch(),
                         .config_generation = arguments.generation,
                         .client_limits = client_limits(config),
                         .fd_limits = fd_limits(),
                         .facts = {.version = kVersion,
                                   .socket = config.broker.socket,
                                   .fd_socket = arguments.fd_socket,
                                   .pid = static_cast<std::uint32_t>(getpid()),
                                   .started = monotonic_now()},
                         .read_limits = [&]() -> Result<LimitsChanged> {
                           const Config next = FACET_TRY(load_config(arguments.config_path));
                           set_log_level(next.log.level);
                           return LimitsChanged{core_limits(next, num_workers), core_seams(next)};
                         }});
  return service.run();
}

int fail(const Error& error, int exit_code) {
  spdlog::error("broker_failed code={} error=\"{}\"", code_name(error.code), error.message);
  return exit_code;
}

}  // namespace

int run_broker(int argc, char** argv) {
  Arguments arguments;
  if (auto exit_code = parse_arguments(argc, argv, arguments)) return *exit_code;
  auto config = load_config(arguments.config_path);
  if (!config) return fail(config.error(), kExitBadConfig);
  start_log(config->log, "facet-broker");
  if (auto status = bind_life_to_supervisor(); !status) return fail(status.error(), kExitFailure);
  const auto configured = static_cast<std::uint32_t>(std::max(1, config->worker.count));
  auto exit_code = serve(*config, arguments,
                         arguments.num_workers > 0 ? arguments.num_workers : configured);
  return exit_code ? *exit_code : fail(exit_code.error(), kExitFailure);
}

}  // namespace facet
