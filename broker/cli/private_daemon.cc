#include "broker/cli/private_daemon.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>

#include "broker/cli/siblings.h"
#include "broker/cli/stop_signal.h"

namespace facet {
namespace {

namespace fs = std::filesystem;

constexpr Nanos kReadyTimeout = 600 * kSecond;  // loading a large model from a slow disk
constexpr Nanos kStopTimeout = 10 * kSecond;
constexpr std::size_t kLogTailBytes = 3000;
constexpr char kPrefix[] = "facet-private-";

std::string base_folder() {
  const char* session = std::getenv("XDG_RUNTIME_DIR");
  struct stat info {};
  if (session != nullptr && ::stat(session, &info) == 0 && S_ISDIR(info.st_mode) &&
      ::access(session, W_OK) == 0) {
    return session;
  }
  return "/tmp";
}

// Folders of private daemons that were killed together with their command and its cleaner: nobody
// holds the lock.
void sweep(const std::string& base) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(base, ignored)) {
    struct stat info {};
    const std::string path = entry.path().string();
    if (!entry.path().filename().string().starts_with(kPrefix)) continue;
    if (::lstat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode) || info.st_uid != ::getuid()) {
      continue;
    }
    const UniqueFd lock(::open((path + "/lock").c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    if (lock && ::flock(lock.get(), LOCK_EX | LOCK_NB) == 0) fs::remove_all(path, ignored);
  }
}

// Waits until nobody holds the folder's lock, neither its command nor the daemon, and removes it:
// for a command that is killed. Ctrl-C and the command's streams and locks are none of its concern.
[[noreturn]] void clean_when_free(const std::string& folder) {
  ::setsid();
  ::prctl(PR_SET_NAME, "facet-cleaner");
  ::close_range(0, ~0u, 0);
  for (int i = 0; i < 3; ++i) ::open("/dev/null", O_RDWR);  // 0, 1, 2
  const int lock = ::open((folder + "/lock").c_str(), O_RDWR | O_NOFOLLOW);
  if (lock < 0) ::_exit(0);  // it is removed already
  while (::flock(lock, LOCK_EX) != 0) {
    if (errno != EINTR) ::_exit(1);
  }
  std::error_code ignored;
  fs::remove_all(folder, ignored);
  ::_exit(0);
}

bool wait_exit(pid_t pid, Nanos timeout) {
  const Nanos deadline = monotonic_now() + timeout;
  while (::waitpid(pid, nullptr, WNOHANG) == 0) {
    if (monotonic_now() > deadline) return false;
    const timespec pause{0, 5'000'000};
    ::nanosleep(&pause, nullptr);
  }
  return true;
}

}  // namespace

Status PrivateDaemon::make_folder() {
  const std::string base = base_folder();
  sweep(base);
  std::string pattern = base + "/" + kPrefix + "XXXXXX";
  if (::mkdtemp(pattern.data()) == nullptr) return errno_error(pattern, errno);  // 0700
  folder_ = pattern;
  lock_.reset(::open((folder_ + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock_ || ::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0) return errno_error("lock", errno);
  cleaner_ = ::fork();
  if (cleaner_ == 0) clean_when_free(folder_);
  return {};  // without a cleaner the next private daemon sweeps
}

Status PrivateDaemon::spawn(const std::string& program, int ready_fd) {
  const std::string config = folder_ + "/facet.toml";
  const std::string ready = std::to_string(ready_fd);
  const UniqueFd log(::open(log_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!log || !null) return errno_error(log_, errno);
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) return errno_error("fork", errno);
  if (pid_ > 0) return {};
  ::setsid();
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(1);
  ::dup2(null.get(), STDIN_FILENO);
  ::dup2(log.get(), STDOUT_FILENO);
  ::dup2(log.get(), STDERR_FILENO);
  ::fcntl(ready_fd, F_SETFD, 0);
  ::fcntl(lock_.get(), F_SETFD, 0);
  ::execl(program.c_str(), program.c_str(), "--config", config.c_str(), "--exit-with-parent",
          "--ready-fd", ready.c_str(), nullptr);
  ::_exit(127);
}

Status PrivateDaemon::wait_ready(int ready_fd) {
  const Nanos deadline = monotonic_now() + kReadyTimeout;
  while (monotonic_now() < deadline) {
    if (stop_level() != StopLevel::kNone) return Error(Code::kCancelled, "interrupted");
    pollfd item{ready_fd, POLLIN, 0};
    if (::poll(&item, 1, 200) <= 0) continue;
    char byte = 0;
    if (::read(ready_fd, &byte, 1) == 1) return {};
    return Error(Code::kClosed,
                 "the private daemon ended before it was ready; its log ends:\n" + log_tail());
  }
  return Error(Code::kTimeout,
               "the private daemon was not ready in time; its log ends:\n" + log_tail());
}

Result<std::unique_ptr<PrivateDaemon>> PrivateDaemon::start(Config config) {
  const std::string program = FACET_TRY(find_sibling("facetd"));
  std::unique_ptr<PrivateDaemon> daemon(new PrivateDaemon);
  FACET_TRY_STATUS(daemon->make_folder());
  daemon->socket_ = daemon->folder_ + "/run/facet.sock";
  daemon->log_ = daemon->folder_ + "/facetd.log";
  config.broker.runtime_dir = daemon->folder_ + "/run";
  config.broker.socket = daemon->socket_;
  config.log.file.clear();  // standard error, which is the log file
  std::ofstream(daemon->folder_ + "/facet.toml") << describe(config);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return errno_error("pipe", errno);
  const UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  FACET_TRY_STATUS(daemon->spawn(program, write_end.get()));
  write_end.reset();
  FACET_TRY_STATUS(daemon->wait_ready(read_end.get()));
  return daemon;
}

bool PrivateDaemon::is_running() {
  if (pid_ > 0 && ::waitpid(pid_, nullptr, WNOHANG) != 0) pid_ = -1;
  return pid_ > 0;
}

std::string PrivateDaemon::log_tail() const {
  std::ifstream file(log_, std::ios::binary | std::ios::ate);
  if (!file) return "(no log)";
  const auto size = static_cast<std::size_t>(file.tellg());
  const std::size_t bytes = std::min(size, kLogTailBytes);
  std::string tail(bytes, '\0');
  file.seekg(static_cast<std::streamoff>(size - bytes));
  file.read(tail.data(), static_cast<std::streamsize>(bytes));
  if (bytes < size) tail.erase(0, tail.find('\n') + 1);
  return tail;
}

void PrivateDaemon::stop() {
  if (!is_running()) return;
  ::kill(pid_, SIGTERM);
  if (!wait_exit(pid_, kStopTimeout)) {
    ::kill(pid_, SIGKILL);
    wait_exit(pid_, kStopTimeout);
  }
  pid_ = -1;
}

PrivateDaemon::~PrivateDaemon() {
  stop();
  std::error_code ignored;
  if (!folder_.empty()) fs::remove_all(folder_, ignored);
  if (cleaner_ > 0) {
    ::kill(cleaner_, SIGKILL);
    wait_exit(cleaner_, kStopTimeout);
  }
}

}  // namespace facet
