#include "broker/supervisor/child_process.h"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

namespace facet {
namespace {

constexpr int kFirstFree = 64;  // above every number that a child's descriptor may get

// A process that stands stopped shows these in the place of its end.
bool is_stop_signal(int number) {
  return number == SIGSTOP || number == SIGTSTP || number == SIGTTIN || number == SIGTTOU;
}

[[noreturn]] void die_in_child(int failure_fd) {
  const int error = errno;
  [[maybe_unused]] const ssize_t written = write(failure_fd, &error, sizeof error);
  _exit(127);
}

// Sources first out of the way: one may lie on another's target.
void place_fds(const ChildProgram& program, int failure_fd) {
  int moved[16];
  std::size_t count = 0;
  int highest = STDERR_FILENO;
  for (const auto& [source, target] : program.fds) {
    moved[count] = fcntl(source, F_DUPFD_CLOEXEC, kFirstFree);
    if (moved[count++] < 0) die_in_child(failure_fd);
  }
  for (std::size_t i = 0; i < count; ++i) {
    if (dup2(moved[i], program.fds[i].second) < 0) die_in_child(failure_fd);
    highest = std::max(highest, program.fds[i].second);
  }
  const int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (nothing >= 0) dup2(nothing, STDIN_FILENO);
  dup2(STDERR_FILENO, STDOUT_FILENO);
  close_range(static_cast<unsigned>(highest) + 1, ~0u, CLOSE_RANGE_CLOEXEC);
}

// Ours, but for the names that the program has values of its own for.
std::vector<char*> environment_of(const ChildProgram& program) {
  std::vector<char*> variables;
  for (const std::string& variable : program.environment)
    variables.push_back(const_cast<char*>(variable.c_str()));
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view name(*variable, std::strcspn(*variable, "=") + 1);
    const bool is_replaced =
        std::any_of(program.environment.begin(), program.environment.end(),
                    [&](const std::string& own) { return own.starts_with(name); });
    if (!is_replaced) variables.push_back(*variable);
  }
  variables.push_back(nullptr);
  return variables;
}

[[noreturn]] void run_child(const ChildProgram& program, char* const* argv, char* const* variables,
                            pid_t parent, int go_fd, int failure_fd) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);
  setpgid(0, 0);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  char go = 0;
  if (read(go_fd, &go, 1) != 1) _exit(127);
  place_fds(program, failure_fd);
  execve(argv[0], argv, variables);
  die_in_child(failure_fd);
}

Result<std::pair<UniqueFd, UniqueFd>> make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return errno_error("pipe", errno);
  // Both above the numbers that the child's descriptors will get.
  std::pair<UniqueFd, UniqueFd> pipe{UniqueFd(fcntl(ends[0], F_DUPFD_CLOEXEC, kFirstFree)),
                                     UniqueFd(fcntl(ends[1], F_DUPFD_CLOEXEC, kFirstFree))};
  close(ends[0]);
  close(ends[1]);
  if (!pipe.first || !pipe.second) return errno_error("pipe", errno);
  return pipe;
}

}  // namespace

Result<ChildProcess> ChildProcess::fork_waiting(const ChildProgram& program) {
  auto go = FACET_TRY(make_pipe());
  auto failure = FACET_TRY(make_pipe());
  std::vector<char*> argv{const_cast<char*>(program.path.c_str())};
  for (const auto& argument : program.arguments) {
    argv.push_back(const_cast<char*>(argument.c_str()));
  }
  argv.push_back(nullptr);
  const std::vector<char*> variables = environment_of(program);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return errno_error("fork", errno);
  if (pid == 0) {
    // Ours to write; while it stays open here, the supervisor's end would never be seen as EOF.
    close(go.second.get());
    run_child(program, argv.data(), variables.data(), parent, go.first.get(),
              failure.second.get());
  }
  ChildProcess child;
  child.pid_ = pid;
  child.path_ = program.path;
  child.go_ = std::move(go.second);
  child.exec_failure_ = std::move(failure.first);
  child.pidfd_.reset(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!child.pidfd_) {
    const int error = errno;
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    return errno_error("pidfd_open", error);
  }
  return child;
}

Status ChildProcess::release() {
  const char go = 1;
  const ssize_t written = write(go_.get(), &go, 1);
  go_.reset();
  int error = 0;
  ssize_t count;
  do {
    count = read(exec_failure_.get(), &error, sizeof error);
  } while (count < 0 && errno == EINTR);
  exec_failure_.reset();
  if (written == 1 && count == 0) return {};
  waitpid(pid_, nullptr, 0);
  return errno_error(path_, count == sizeof error ? error : ECHILD);
}

void ChildProcess::signal(int number) const {
  syscall(SYS_pidfd_send_signal, pidfd_.get(), number, nullptr, 0);
}

std::optional<ChildEnd> ChildProcess::reap() {
  siginfo_t info{};
  if (waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED | WNOHANG) != 0) {
    return std::nullopt;
  }
  if (info.si_pid == 0) return std::nullopt;  // still there
  pidfd_.reset();
  return ChildEnd{info.si_code != CLD_EXITED, info.si_status};
}

// The last of the fields of proc(5)'s stat that matter: exit_code, a wait status, is set for the
// whole process as soon as its end is decided.
std::optional<ChildEnd> ChildProcess::end_to_come() const {
  constexpr int kFieldsAfterName = 49;  // from state to exit_code
  char path[40];
  std::snprintf(path, sizeof path, "/proc/%d/stat", pid_);
  const UniqueFd file(open(path, O_RDONLY | O_CLOEXEC));
  char text[2048] = {};
  if (!file || read(file.get(), text, sizeof text - 1) <= 0) return std::nullopt;
  const char* at = std::strrchr(text, ')');
  for (int i = 0; at != nullptr && i <= kFieldsAfterName; ++i) at = std::strchr(at + 1, ' ');
  if (at == nullptr) return std::nullopt;
  const int status = std::atoi(at);
  if (WIFEXITED(status) && WEXITSTATUS(status) != 0) return ChildEnd{false, WEXITSTATUS(status)};
  if (WIFSIGNALED(status) && !is_stop_signal(WTERMSIG(status))) {
    return ChildEnd{true, WTERMSIG(status)};
  }
  return std::nullopt;
}

bool ChildProcess::is_stopped() const {
  char path[40];
  std::snprintf(path, sizeof path, "/proc/%d/stat", pid_);
  const UniqueFd file(open(path, O_RDONLY | O_CLOEXEC));
  char text[256] = {};
  if (!file || read(file.get(), text, sizeof text - 1) <= 0) return false;
  const char* name_end = std::strrchr(text, ')');
  return name_end != nullptr && (name_end[2] == 'T' || name_end[2] == 't');
}

}  // namespace facet
