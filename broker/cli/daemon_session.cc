#include "broker/cli/daemon_session.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "broker/cli/stop_signal.h"

namespace facet {
namespace {

constexpr Nanos kStatusTimeout = 5 * kSecond;
constexpr Nanos kWorkerTimeout = 600 * kSecond;  // loading a large model
constexpr Nanos kSayAfter = 2 * kSecond;

Result<Config> private_config(const DaemonOptions& options) {
  if (!options.config.empty()) return load_config(options.config);
  Config config;
  const bool is_named = !options.model.empty();
  const std::string model = is_named ? options.model : FACET_TRY(default_model());
  std::error_code error;
  config.model.path = std::filesystem::canonical(model, error).string();
  if (error) return Error(Code::kNotFound, model + ": " + error.message());
  return config;
}

}  // namespace

Result<ServerFacts> parse_facts(const std::string& status_json) try {
  const auto json = nlohmann::json::parse(status_json);
  ServerFacts facts;
  std::size_t disabled = 0;
  const auto& workers = json.at("workers");
  for (const auto& worker : workers) {
    const std::string state = worker.value("state", "");
    if (state == "disabled") {
      ++disabled;
      facts.trouble = "worker " + std::to_string(worker.value("index", 0)) +
                      " is disabled (exit code " + std::to_string(worker.value("exit_code", 0)) +
                      ")";
    }
    if (state != "ready") continue;
    facts.model = worker.value("model", "");
    facts.capacity += worker.value("credits", 0u);
  }
  facts.is_hopeless = !workers.empty() && disabled == workers.size();
  return facts;
} catch (const nlohmann::json::exception& error) {
  return Error(Code::kCorrupt, "the daemon's status cannot be read: " + std::string(error.what()));
}

Result<DaemonSession> DaemonSession::open(const DaemonOptions& options,
                                          ClientOptions client_options) {
  DaemonSession session;
  std::string socket;
  if (options.model.empty()) {
    const SocketChoice choice = FACET_TRY(choose_sockets(options));
    auto found = find_daemon(choice);
    if (!found && choice.is_named) return found.error();
    if (found) socket = *std::move(found);
  }
  if (socket.empty()) {
    Config config = FACET_TRY(private_config(options));
    if (options.is_for_one && config.worker.count == 0 && config.worker.gpus.empty())
      config.worker.count = 1;
    const std::string serving =
        config.worker.engine == EngineKind::kEcho ? "the echo engine" : config.model.path;
    std::fprintf(stderr, "facet: %sstarting a private daemon with %s\n",
                 options.model.empty() ? "no daemon is running; " : "", serving.c_str());
    session.own_ = FACET_TRY(PrivateDaemon::start(std::move(config)));
    socket = session.own_->socket_path();
  }
  session.client_ = FACET_TRY(Client::connect(socket, client_options));
  session.socket_ = socket;
  session.client_options_ = client_options;
  return session;
}

Result<ServerFacts> DaemonSession::facts() {
  return parse_facts(FACET_TRY(client_->status(kStatusTimeout)));
}

Status DaemonSession::check() {
  if (!own_ || own_->is_running()) return {};
  return Error(Code::kClosed, "the private daemon ended; its log ends:\n" + own_->log_tail());
}

Result<ServerFacts> DaemonSession::wait_for_worker() {
  const Nanos start = monotonic_now();
  Nanos heard = start;
  bool has_said = false;
  while (monotonic_now() - start < kWorkerTimeout) {
    if (stop_level() != StopLevel::kNone) return Error(Code::kCancelled, "interrupted");
    FACET_TRY_STATUS(check());
    const auto now = facts();
    if (!now && now.error().code != Code::kTimeout) return now.error();
    if (now && now->capacity > 0) return *now;
    if (now) heard = monotonic_now();
    FACET_TRY_STATUS(check_silence(client_options_, socket_, monotonic_now() - heard));
    if (now && now->is_hopeless) {
      const std::string log = own_ ? "; its log ends:\n" + own_->log_tail() : "";
      return Error(Code::kClosed, "no worker can serve: " + now->trouble + log);
    }
    if (!has_said && monotonic_now() - start > kSayAfter) {
      std::fprintf(stderr, "facet: waiting for a worker to load the model\n");
      has_said = true;
    }
    const timespec pause{0, 50'000'000};
    ::nanosleep(&pause, nullptr);
  }
  return Error(Code::kTimeout, "no worker became ready in time");
}

}  // namespace facet
