#include "broker/supervisor/supervisor.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/control/fds.h"
#include "common/log/log.h"

namespace facet {
namespace {

// SIGUSR1: the parent of a private daemon is gone, nobody waits for a drain. SIGHUP: reload.
constexpr std::array kHandledSignals = {SIGTERM, SIGINT, SIGUSR1, SIGHUP};

// From the end of a drain to the end of the last process: signals, grace, what cannot be reaped.
constexpr Nanos kAfterDrain = 15 * kSecond;

Result<std::pair<UniqueFd, UniqueFd>> make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return errno_error("pipe", errno);
  return std::pair{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

sigset_t handled_signals() {
  sigset_t handled;
  sigemptyset(&handled);
  for (const int number : kHandledSignals) sigaddset(&handled, number);
  return handled;
}

}  // namespace

void Supervisor::hold_signals() {
  const sigset_t handled = handled_signals();
  sigprocmask(SIG_BLOCK, &handled, nullptr);
}

Result<std::unique_ptr<Supervisor>> Supervisor::create(SupervisorSetup setup) {
  std::unique_ptr<Supervisor> supervisor(new Supervisor(std::move(setup)));
  FACET_TRY_STATUS(supervisor->open_descriptors());
  return supervisor;
}

Supervisor::Supervisor(SupervisorSetup setup)
    : setup_(std::move(setup)), core_(setup_.rules),
      operators_(std::move(setup_.operator_listener)),
      config_(setup_.config, setup_.config_doors) {}

Status Supervisor::open_descriptors() {
  epoll_.reset(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_) return errno_error("epoll_create1", errno);
  hold_signals();
  const sigset_t handled = handled_signals();
  signals_.reset(signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) return errno_error("signalfd", errno);
  watch(signals_.get());
  watch(operators_.listener());
  std::tie(lifeline_read_, lifeline_write_) = FACET_TRY(make_pipe());
  broker_page_ = FACET_TRY(BrokerPageWriter::create());
  return {};
}

int Supervisor::run() {
  feed(TimePassed{});
  while (!has_left_) wait_and_handle();
  return exit_code_;
}

void Supervisor::feed(const SupervisorEvent& event) {
  for (const SupervisorAction& action :
       core_.step(event, monotonic_now(), new_incarnation())) {
    std::visit([this](const auto& known) { execute(known); }, action);
  }
}

// Its birth is told to the broker before it can connect there: it waits in between.
void Supervisor::execute(const StartChild& action) {
  auto child = fork_child(action.id);
  if (!child) return feed(StartFailed{action.id, child.error().message});
  auto& born = children_.emplace_back(std::make_unique<Child>(std::move(*child)));
  Child& known = *born;
  const auto pid = static_cast<std::uint32_t>(known.process.pid());
  if (action.id.role == Role::kBroker) look_at_pages();  // who may hold requests: as it is now
  feed(ChildStarted{action.id, pid});
  const Status released = known.process.release();
  close_handed_over(action.id.role);
  known.watch.close_handed_over();
  if (!released) {
    std::erase_if(children_, [&](const auto& child_ptr) { return child_ptr.get() == &known; });
    if (action.id.role == Role::kDecoder) decoder_lifeline_.reset();
    return feed(StartFailed{action.id, released.error().message});
  }
  watch(known.process.pidfd());
  if (action.id.role == Role::kWorker) {
    watch(known.watch.bell());
    for (const int fd : known.watch.sentinels()) watch(fd);
  }
  if (action.id.role == Role::kBroker) watch(broker_.fd());
  spdlog::info("started child=\"{}\" pid={} incarnation={}", child_name(action.id), pid,
               action.id.incarnation);
}

void Supervisor::execute(const SignalChild& action) {
  for (const auto& child : children_) {
    if (child->id == action.id) child->process.signal(action.number);
  }
}

void Supervisor::execute(const TellBroker& action) {
  std::vector<UniqueFd> along;
  if (action.packet.kind == ControlKind::kWorkerStarted) along = mailbox_for_broker(action.packet);
  if (action.packet.kind == ControlKind::kDecoderStarted && jobs_for_broker_) {
    along.push_back(std::move(jobs_for_broker_));
  }
  broker_.send(action.packet, std::move(along));
}

std::vector<UniqueFd> Supervisor::mailbox_for_broker(const ControlPacket& packet) const {
  for (const auto& child : children_) {
    if (child->id.role == Role::kWorker && child->id.worker == packet.worker &&
        child->id.incarnation == packet.incarnation) {
      return child->mailbox.broker_fds();
    }
  }
  return {};
}

void Supervisor::execute(const PublishEpoch& action) { broker_page_.publish(action.epoch); }
void Supervisor::execute(const TellOperator& action) {
  operators_.tell(action.client, action.text, action.is_last, action.exit_code);
}

void Supervisor::execute(const RestoreConfig&) {
  const auto event = config_.restore();
  if (!event) return;
  set_log_level(config_.in_effect().log.level);
  spdlog::warn("configuration_restored generation={}", event->generation);
  feed(*event);
}

void Supervisor::execute(const Announce& action) {
  switch (action.milestone) {
    case Milestone::kReady:
      notify_.send("READY=1");
      is_announced_ = true;
      std::printf("facet is ready: %s\n", setup_.client_socket.c_str());
      std::fflush(stdout);
      if (setup_.ready) {
        [[maybe_unused]] const ssize_t count = write(setup_.ready.get(), "1", 1);
        setup_.ready.reset();
      }
      spdlog::info("ready socket={}", setup_.client_socket);
      break;
    case Milestone::kStatus:
      notify_.send("STATUS=" + action.status);
      spdlog::debug("status \"{}\"", action.status);
      break;
    case Milestone::kStopping:
      // However long the drain may take by configuration, systemd waits for it.
      notify_.send("STOPPING=1\nSTATUS=" + action.status + "\nEXTEND_TIMEOUT_USEC=" +
                   std::to_string((config_.in_effect().supervisor.drain_ms * kMillisecond +
                                   kAfterDrain) / 1000));
      break;
  }
}

void Supervisor::execute(const Note& action) {
  spdlog::log(action.is_problem ? spdlog::level::warn : spdlog::level::info, "{}", action.text);
}

void Supervisor::execute(const Leave& action) {
  has_left_ = true;
  exit_code_ = action.exit_code;
}

Result<Supervisor::Child> Supervisor::fork_child(const ChildId& id) {
  Child child;
  child.id = id;
  ChildProgram program;
  if (id.role == Role::kBroker) {
    program = FACET_TRY(broker_program());
  } else if (id.role == Role::kDecoder) {
    program = FACET_TRY(decoder_program());
  } else {
    child.watch = FACET_TRY(WorkerWatch::create());
    child.mailbox = FACET_TRY(WorkerMailbox::create());
    program = worker_program(child);
  }
  child.process = FACET_TRY(ChildProcess::fork_waiting(program));
  return child;
}

Result<ChildProgram> Supervisor::broker_program() {
  handed_control_ = FACET_TRY(broker_.open());
  ChildProgram program{
      setup_.program_folder + "/facet-broker",
      {"--config", setup_.config_path, "--workers", std::to_string(setup_.rules.num_workers),
       "--generation", std::to_string(config_.generation())},
      {{handed_control_.get(), kBrokerControlFd},
       {setup_.ring.get(), kBrokerRingFd},
       {setup_.ledger.get(), kBrokerLedgerFd},
       {setup_.client_listener.get(), kBrokerClientListenFd},
       {setup_.worker_listener.get(), kBrokerWorkerListenFd}}};
  if (setup_.fd_listener) {
    program.arguments.insert(program.arguments.end(), {"--fd-socket", setup_.fd_socket});
    program.fds.emplace_back(setup_.fd_listener.get(), kBrokerFdListenFd);
  }
  return program;
}

Result<ChildProgram> Supervisor::decoder_program() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return errno_error("socketpair for the decoder", errno);
  }
  handed_jobs_.reset(ends[0]);
  jobs_for_broker_.reset(ends[1]);
  std::tie(decoder_lifeline_, handed_lifeline_) = FACET_TRY(make_pipe());
  fcntl(decoder_lifeline_.get(), F_SETFL, O_NONBLOCK);
  return ChildProgram{setup_.program_folder + "/facet-decoder",
                      {"--config", setup_.config_path},
                      {{handed_jobs_.get(), kDecoderJobFd},
                       {setup_.ring.get(), kDecoderRingFd},
                       {handed_lifeline_.get(), kDecoderLifelineFd}}};
}

ChildProgram Supervisor::worker_program(const Child& child) const {
  const ChildId& id = child.id;
  ChildProgram program{setup_.program_folder + "/" + setup_.worker_program,
                       {"--config", setup_.config_path, "--worker", std::to_string(id.worker),
                        "--incarnation", std::to_string(id.incarnation), "--worker-socket",
                        setup_.worker_socket},
                       child.watch.worker_fds()};
  for (const auto& handed : child.mailbox.worker_fds()) program.fds.push_back(handed);
  program.fds.emplace_back(setup_.ring_read_only.get(), kWorkerRingFd);
  program.fds.emplace_back(lifeline_read_.get(), kWorkerLifelineFd);
  program.fds.emplace_back(broker_page_.worker_fd(), kWorkerBrokerPageFd);
  // Bound before it makes its first call of CUDA: it sees this one alone, under whatever index.
  if (id.worker < setup_.gpus.size())
    program.environment.push_back("CUDA_VISIBLE_DEVICES=" + setup_.gpus[id.worker]);
  return program;
}

// Kept open here, these would hide the end of those who hold them.
void Supervisor::close_handed_over(Role role) {
  if (role == Role::kBroker) handed_control_.reset();
  if (role == Role::kDecoder) {
    handed_jobs_.reset();
    handed_lifeline_.reset();
    jobs_for_broker_.reset();
  }
}

void Supervisor::wait_and_handle() {
  const Nanos now = monotonic_now();
  const Nanos wait = std::max<Nanos>(0, core_.next_wakeup(now) - now);
  std::array<epoll_event, 32> events;
  const int count = epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()),
                               static_cast<int>((wait + kMillisecond - 1) / kMillisecond));
  for (int i = 0; i < count && !has_left_; ++i) {
    on_readable(events[static_cast<std::size_t>(i)].data.fd);
  }
  broker_.flush();
  operators_.expire(monotonic_now());
  if (!has_left_) look_at_pages();
  if (!has_left_) feed(TimePassed{});
  feed_watchdog();
}

void Supervisor::on_readable(int fd) {
  if (fd == signals_.get()) return read_signals();
  if (fd == broker_.fd()) return read_broker();
  if (fd == operators_.listener() || operators_.is_connection(fd)) return read_operator(fd);
  if (fd == decoder_lifeline_.get()) return read_lifeline();
  if (!hear_worker(fd)) reap(fd);
}

// False: `fd` is no worker's bell or sentinel.
bool Supervisor::hear_worker(int fd) {
  for (const auto& child : children_) {
    if (child->id.role != Role::kWorker) continue;
    const auto [first, second] = child->watch.sentinels();
    const bool is_sentinel = fd == first || fd == second;
    if (!is_sentinel && child->watch.bell() != fd) continue;
    if (is_sentinel) {
      char byte = 0;
      if (read(fd, &byte, 1) < 0) return true;  // not this life's end: stale
      see_death(*child);
    } else {
      child->watch.silence();
      hear_last_words(*child);
    }
    return true;
  }
  return false;
}

// What cannot be told before it is reaped is told then.
void Supervisor::see_death(Child& child) {
  for (const int fd : child.watch.sentinels()) {
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  }
  child.watch.dismiss_sentinels();
  hear_last_words(child);
  if (child.was_heard) return;
  const auto end = child.process.end_to_come();
  if (!end) return;
  spdlog::info("dying child=\"{}\" incarnation={} {}", child_name(child.id), child.id.incarnation,
               child.watch.black_box());
  feed(DeathSeen{child.id, *end});
}

// Also before an end is judged: the bell may be read after that.
void Supervisor::hear_last_words(Child& child) {
  if (child.id.role != Role::kWorker || child.was_heard) return;
  const auto pid = static_cast<std::uint32_t>(child.process.pid());
  const auto signal = child.watch.last_words(child.id, pid);
  if (!signal) return;
  child.was_heard = true;
  spdlog::warn("last_words child=\"{}\" incarnation={} signal={} si_code={} {}",
               child_name(child.id), child.id.incarnation, signal->number, signal->code,
               child.watch.black_box());
  feed(LastWordsHeard{child.id, *signal});
}

// The end of one child frees numbers that its successor gets at once, so `pidfd` may be stale.
void Supervisor::reap(int pidfd) {
  const auto child = std::find_if(children_.begin(), children_.end(), [&](const auto& candidate) {
    return candidate->process.pidfd() == pidfd;
  });
  if (child == children_.end()) return;
  Child& dead = **child;
  hear_last_words(dead);
  const ChildId id = dead.id;
  const auto end = dead.process.reap();
  if (!end) return;
  std::erase_if(children_, [&](const auto& candidate) { return candidate.get() == &dead; });
  if (id.role == Role::kBroker) {
    read_broker();  // what it said last may matter for what its death means
    broker_.close();
  }
  if (id.role == Role::kDecoder) watch(decoder_lifeline_.get());
  feed(ChildExited{id, *end});
}

void Supervisor::read_lifeline() {
  char byte = 0;
  if (read(decoder_lifeline_.get(), &byte, 1) != 0) return;  // not the end of it
  decoder_lifeline_.reset();
  feed(LifelineClosed{});
}

void Supervisor::read_signals() {
  signalfd_siginfo info{};
  while (read(signals_.get(), &info, sizeof info) == sizeof info) {
    const char* name = sigabbrev_np(static_cast<int>(info.ssi_signo));
    spdlog::info("signal name=SIG{} from={}", name != nullptr ? name : "?", info.ssi_pid);
    if (info.ssi_signo == SIGHUP) {
      reload_for_signal();
      continue;
    }
    feed(StopRequested{});
    if (info.ssi_signo == SIGUSR1) feed(StopRequested{});
  }
}

void Supervisor::read_operator(int fd) {
  if (fd == operators_.listener()) {
    if (const int fresh = operators_.accept(monotonic_now()); fresh >= 0) watch(fresh);
    return;
  }
  const auto asked = operators_.receive(fd);
  if (asked) on_request(*asked);
}

// What concerns the configuration file is done here, the rest is the core's.
void Supervisor::on_request(const OperatorPort::Asked& asked) {
  using Scope = ConfigReload::Scope;
  const OperatorKind kind = asked.request.kind;
  const bool is_rolling = kind == OperatorKind::kRestartRolling && core_.why_no_restart().empty();
  if (kind != OperatorKind::kReload && !is_rolling) {
    return feed(OperatorSaid{asked.client, asked.request});
  }
  if (core_.is_restarting()) {
    return operators_.tell(asked.client, "refused: a restart is under way", true, kExitFailure);
  }
  const auto outcome = reload(is_rolling ? Scope::kRestart : Scope::kLive);
  for (std::size_t i = 0; i < outcome.lines.size(); ++i) {
    const bool is_last = i + 1 == outcome.lines.size() && !(is_rolling && outcome.is_good);
    operators_.tell(asked.client, outcome.lines[i], is_last,
                    outcome.is_good ? kExitOk : kExitFailure);
  }
  if (is_rolling && outcome.is_good) feed(OperatorSaid{asked.client, asked.request});
}

ConfigReload::Outcome Supervisor::reload(ConfigReload::Scope scope) {
  // Only what announces readiness may take it back for a while.
  const std::string now = std::to_string(monotonic_now() / 1000);
  if (is_announced_) notify_.send("RELOADING=1\nMONOTONIC_USEC=" + now);
  auto outcome = config_.reload(scope);
  for (const std::string& line : outcome.lines) {
    spdlog::log(outcome.is_good ? spdlog::level::info : spdlog::level::warn, "reload \"{}\"", line);
  }
  if (outcome.event) {
    set_log_level(config_.in_effect().log.level);
    feed(*outcome.event);
  }
  if (is_announced_) notify_.send("READY=1");
  return outcome;
}

void Supervisor::reload_for_signal() {
  if (core_.is_restarting()) {
    spdlog::warn("reload \"refused: a restart is under way\"");
    return;
  }
  reload(ConfigReload::Scope::kLive);
}

void Supervisor::read_broker() {
  while (const auto packet = broker_.receive()) feed(BrokerSaid{*packet});
}

void Supervisor::look_at_pages() {
  std::vector<PageSeen> seen;
  BrokerSeen broker;
  for (const auto& child : children_) {
    if (child->id.role == Role::kBroker) broker.is_stopped = child->process.is_stopped();
    if (child->id.role != Role::kWorker) continue;
    PageSeen page = child->watch.read(child->id);
    page.is_stopped = page.progress == child->last_progress && child->process.is_stopped();
    child->last_progress = page.progress;
    seen.push_back(page);
  }
  for (const PageSeen& page : seen) feed(page);
  feed(broker);
}

void Supervisor::feed_watchdog() {
  if (notify_.watchdog_interval() == 0 || monotonic_now() < watchdog_due_) return;
  watchdog_due_ = monotonic_now() + notify_.watchdog_interval() / 2;
  notify_.send("WATCHDOG=1");
}

void Supervisor::watch(int fd) const {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event);
}

}  // namespace facet
