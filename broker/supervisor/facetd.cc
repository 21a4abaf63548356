#include "broker/supervisor/facetd.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "broker/supervisor/facetd_options.h"
#include "broker/supervisor/gpu_binding.h"
#include "broker/supervisor/runtime_dir.h"
#include "broker/supervisor/supervisor.h"
#include "common/config/config.h"
#include "common/control/descriptor_needs.h"
#include "common/control/fds.h"
#include "common/control/operator_packets.h"
#include "common/log/log.h"
#include "common/protocol/put_fd.h"
#include "common/shm/ledger.h"
#include "common/shm/ring.h"
#include "common/shm/shared_region.h"

namespace facet {
namespace {

constexpr const char* kEffectiveConfig = "effective.toml";

int fail(const Error& error, int exit_code) {
  std::fprintf(stderr, "facetd: %s\n", error.message.c_str());
  return exit_code;
}

Result<Config> read_config(const FacetdOptions& options) {
  Config config = FACET_TRY(load_config(options.config_path));
  if (options.runtime_dir.empty()) return config;
  const std::string former_default = config.broker.runtime_dir + "/facet.sock";
  config.broker.runtime_dir = std::filesystem::absolute(options.runtime_dir).lexically_normal();
  if (config.broker.socket == former_default) {
    config.broker.socket = config.broker.runtime_dir + "/facet.sock";
  }
  return config;
}

// The ring is laid out here, once; the supervisor does not keep it mapped.
Result<SharedMemory> create_ring(const RingConfig& config) {
  const auto geometry = RingGeometry::from_bytes(config.ingest_bytes, config.pixel_bytes);
  SharedMemory memory = FACET_TRY(create_shared_memory("ring", ring_object_bytes(geometry)));
  auto region = FACET_TRY(MappedRegion::map(memory.read_write.get(), MapAccess::kReadWrite));
  FACET_TRY_STATUS(format_ring(region.writable_bytes(), geometry));
  return memory;
}

Result<SharedMemory> create_ledger(const LedgerConfig& config) {
  SharedMemory memory = FACET_TRY(create_shared_memory("ledger", config.bytes));
  auto region = FACET_TRY(MappedRegion::map(memory.read_write.get(), MapAccess::kReadWrite));
  FACET_TRY_STATUS(
      format_ledger(region.writable_bytes(), static_cast<std::uint32_t>(config.max_records)));
  return memory;
}

Nanos milliseconds(int count) {
  return count * kMillisecond;
}

SupervisorRules rules_from(const Config& config) {
  SupervisorRules rules;
  const int num_workers = config.worker.count > 0
                              ? config.worker.count
                              : std::max<int>(1, static_cast<int>(config.worker.gpus.size()));
  rules.num_workers = static_cast<std::uint32_t>(num_workers);
  rules.back_off = {milliseconds(config.supervisor.restart_backoff_ms),
                    milliseconds(config.supervisor.restart_backoff_max_ms)};
  rules.deadlines = {milliseconds(config.supervisor.load_deadline_ms),
                     milliseconds(config.supervisor.warmup_deadline_ms),
                     milliseconds(config.supervisor.idle_deadline_ms),
                     milliseconds(config.supervisor.step_deadline_ms)};
  rules.broker_deadline = milliseconds(config.supervisor.broker_deadline_ms);
  rules.kill_grace = milliseconds(config.supervisor.kill_grace_ms);
  rules.drain = milliseconds(config.supervisor.drain_ms);
  return rules;
}

// All programs lie beside this one; a missing one is said before anything starts.
Result<std::string> find_programs(const std::string& worker_program) {
  std::error_code error;
  const std::string self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return Error(Code::kIo, "/proc/self/exe: " + error.message());
  std::string folder = std::filesystem::path(self).parent_path();
  for (const std::string& name :
       {std::string("facet-broker"), std::string("facet-decoder"), worker_program}) {
    const std::string path = folder + "/" + name;
    if (access(path.c_str(), X_OK) != 0) return errno_error("program " + path, errno);
  }
  return folder;
}

// A pipe or a device would let the supervisor wait, or read nothing and mean the defaults.
Status check_regular(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_regular_file(path, error)) return {};
  if (error) return Error(Code::kInvalidArgument, path + ": " + error.message());
  return Error(Code::kInvalidArgument, path + " is not a regular file");
}

Status follow_parent() {
  const pid_t parent = getppid();
  if (prctl(PR_SET_PDEATHSIG, SIGUSR1) != 0) return errno_error("PR_SET_PDEATHSIG", errno);
  if (getppid() != parent) return Error(Code::kClosed, "the parent is gone");
  return {};
}

// The broker would end, or serve nobody, for want of descriptors.
Status check_descriptor_limit(const Config& config) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return errno_error("RLIMIT_NOFILE", errno);
  const auto needed = static_cast<rlim_t>(config.broker.max_clients + kReservedDescriptors);
  if (limit.rlim_max >= needed) return {};
  return Error(Code::kInvalidArgument,
               "at most " + std::to_string(limit.rlim_max) + " open files are allowed, " +
                   std::to_string(needed) + " are needed for broker.max_clients = " +
                   std::to_string(config.broker.max_clients) +
                   ": raise the limit (ulimit -Hn, LimitNOFILE=) or lower max_clients");
}

// Not where its name would be too long for a socket: clients send chunks then, as from elsewhere.
Status open_fd_socket(SupervisorSetup& setup, std::vector<std::string>& made) {
  const std::string path = setup.client_socket + std::string(kFdSocketSuffix);
  if (path.size() >= sizeof(sockaddr_un::sun_path)) {
    spdlog::warn("no_fd_socket path={} bytes={} limit={}", path, path.size(),
                 sizeof(sockaddr_un::sun_path) - 1);
    return {};
  }
  setup.fd_listener = FACET_TRY(RuntimeDir::listen(path, 0660, SOCK_SEQPACKET));
  setup.fd_socket = made.emplace_back(path);
  return {};
}

// `made`: files that are ours to remove, also when a later step fails.
Result<SupervisorSetup> prepare(const Config& config, const RuntimeDir& folder,
                                const FacetdOptions& options, GpuBinding& gpus,
                                std::vector<std::string>& made) {
  SupervisorSetup setup;
  setup.worker_program =
      config.worker.engine == EngineKind::kEcho ? "facet-worker-echo" : "facet-worker";
  setup.program_folder = FACET_TRY(find_programs(setup.worker_program));
  // While the driver lists its GPUs the shared memory is made; each takes about as long.
  FACET_TRY_STATUS(gpus.ask(config.worker, setup.program_folder));
  SharedMemory ring = FACET_TRY(create_ring(config.ring));
  SharedMemory ledger = FACET_TRY(create_ledger(config.ledger));
  setup.ring = std::move(ring.read_write);
  setup.ring_read_only = std::move(ring.read_only);
  setup.ledger = std::move(ledger.read_write);
  FACET_TRY_STATUS(gpus.bind());
  setup.gpus = gpus.uuids();
  setup.rules = rules_from(gpus.bound(config));
  setup.config = config;
  setup.config_doors = {
      .read = [&options]() -> Result<Config> {
        FACET_TRY_STATUS(check_regular(options.config_path));
        Config next = FACET_TRY(read_config(options));
        FACET_TRY_STATUS(check_descriptor_limit(next));
        return next;
      },
      .publish =
          [&folder, &gpus](const Config& next) {
            return folder.write_file(kEffectiveConfig, describe(gpus.bound(next)));
          },
      .rules = [&gpus](const Config& next) { return rules_from(gpus.bound(next)); }};
  setup.client_socket = config.broker.socket;
  setup.worker_socket = folder.path() + "/workers.sock";
  // Children read what is in effect now, also when they start much later.
  FACET_TRY_STATUS(folder.write_file(kEffectiveConfig, describe(gpus.bound(config))));
  setup.config_path = made.emplace_back(folder.path() + "/" + kEffectiveConfig);
  FACET_TRY_STATUS(open_fd_socket(setup, made));  // first: who finds the clients' finds it too
  setup.client_listener = FACET_TRY(RuntimeDir::listen(setup.client_socket, 0660));
  made.push_back(setup.client_socket);
  setup.worker_listener = FACET_TRY(RuntimeDir::listen(setup.worker_socket, 0600));
  made.push_back(setup.worker_socket);
  const std::string control = folder.path() + "/" + kOperatorSocketName;
  setup.operator_listener = FACET_TRY(RuntimeDir::listen(control, 0600, SOCK_SEQPACKET));
  made.push_back(control);
  if (options.ready_fd >= 0) {
    if (fcntl(options.ready_fd, F_SETFD, FD_CLOEXEC) != 0) {
      return errno_error("--ready-fd " + std::to_string(options.ready_fd), errno);
    }
    setup.ready.reset(options.ready_fd);
  }
  return setup;
}

// A dump of a process with a model in it would delay its replacement by the time it takes.
void forbid_core_dumps() {
  rlimit limit{};
  if (getrlimit(RLIMIT_CORE, &limit) != 0) return;
  limit.rlim_cur = 0;
  setrlimit(RLIMIT_CORE, &limit);
}

int serve(const Config& config, const RuntimeDir& folder, const FacetdOptions& options) {
  std::vector<std::string> made;
  GpuBinding gpus;
  const auto exit_code = [&]() -> Result<int> {
    SupervisorSetup setup = FACET_TRY(prepare(config, folder, options, gpus, made));
    auto supervisor = FACET_TRY(Supervisor::create(std::move(setup)));
    return supervisor->run();
  }();
  folder.leave(made);
  if (!exit_code)
    return fail(exit_code.error(), gpus.is_bad_config() ? kExitBadConfig : kExitFailure);
  spdlog::info("stopped exit_code={}", *exit_code);
  return *exit_code;
}

}  // namespace

int run_facetd(int argc, char** argv) {
  FacetdOptions options;
  if (const auto exit_code = parse_options(argc, argv, options)) return *exit_code;
  const auto config = read_config(options);
  if (!config) return fail(config.error(), kExitBadConfig);
  if (options.is_check_only) {
    std::printf("%s: ok\n", options.config_path.c_str());
    return kExitOk;
  }
  if (const Status status = check_descriptor_limit(*config); !status) {
    return fail(status.error(), kExitBadConfig);
  }
  Supervisor::hold_signals();
  if (options.ends_with_parent) {
    if (const Status status = follow_parent(); !status) return fail(status.error(), kExitFailure);
  }
  forbid_core_dumps();
  // For the workers, whose thread pool reads it when it is loaded: threads without work sleep. The
  // pool's own choice is to spin, which stalls every operation when other processes want the cores.
  setenv("OMP_WAIT_POLICY", "passive", 0);
  start_log(config->log, "facetd");
  const auto folder = RuntimeDir::claim(config->broker.runtime_dir);
  if (!folder) return fail(folder.error(), kExitFailure);
  return serve(*config, *folder, options);
}

}  // namespace facet
