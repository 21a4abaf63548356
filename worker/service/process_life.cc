#include "worker/service/process_life.h"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "common/base/check.h"

namespace facet {
namespace {

constexpr std::array kFatalSignals = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};

// Written before the handlers are installed, only read by them.
char g_obituary[64] = "facet-worker";
std::array<char, 64 << 10> g_signal_stack;
WorkerPage* g_page = nullptr;
int g_last_words_fd = -1;

// Plain atomics and one write(). Of several threads that die at once the first one is heard.
void leave_last_words(int number, const siginfo_t& info) {
  LastWords& words = g_page->last_words;
  if (words.is_taken.exchange(1, std::memory_order_relaxed) != 0) return;
  words.signal_code.store(info.si_code, std::memory_order_relaxed);
  // A fault has an address where a signal that was sent has its sender.
  const pid_t sender = info.si_code <= 0 ? info.si_pid : 0;
  words.sender_pid.store(static_cast<std::uint32_t>(sender), std::memory_order_relaxed);
  words.phase.store(g_page->phase.load(std::memory_order_relaxed), std::memory_order_relaxed);
  words.signal.store(static_cast<std::uint32_t>(number), std::memory_order_release);
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(g_last_words_fd, &one, sizeof one);
}

// Only async-signal-safe calls. SA_RESETHAND has restored the default action: a fault happens
// again on return, and raise() sends what was raised, so the exit status stays what it was.
void on_fatal_signal(int number, siginfo_t* info, void*) {
  leave_last_words(number, *info);
  char line[96];
  std::size_t length = strnlen(g_obituary, sizeof g_obituary);
  std::memcpy(line, g_obituary, length);
  line[length++] = static_cast<char>('0' + number / 10);
  line[length++] = static_cast<char>('0' + number % 10);
  line[length++] = '\n';
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line, length);
  if (info->si_code <= 0) raise(number);
}

}  // namespace

Status bind_life_to_supervisor(int lifeline_fd) {
  struct stat facts {};
  if (fstat(lifeline_fd, &facts) != 0) return errno_error("lifeline descriptor", errno);
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return errno_error("PR_SET_PDEATHSIG", errno);
  // The supervisor may have died before the line above: then the pipe says so.
  if (is_supervisor_gone(lifeline_fd)) return Error(Code::kClosed, "the supervisor is gone");
  return {};
}

bool is_supervisor_gone(int lifeline_fd) {
  pollfd lifeline{.fd = lifeline_fd, .events = POLLIN, .revents = 0};
  return poll(&lifeline, 1, 0) > 0;  // nothing is ever written: readable means closed
}

void install_signal_handlers(std::uint32_t worker, WorkerPage& page, int last_words_fd) {
  g_page = &page;
  g_last_words_fd = last_words_fd;
  std::snprintf(g_obituary, sizeof g_obituary, "facet-worker %u ended by signal ", worker);
  std::signal(SIGINT, SIG_IGN);
  std::signal(SIGPIPE, SIG_IGN);
  stack_t stack{.ss_sp = g_signal_stack.data(), .ss_flags = 0, .ss_size = g_signal_stack.size()};
  FACET_CHECK(sigaltstack(&stack, nullptr) == 0);
  for (int number : kFatalSignals) {
    struct sigaction action {};
    action.sa_sigaction = on_fatal_signal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | static_cast<int>(SA_RESETHAND);
    FACET_CHECK(sigaction(number, &action, nullptr) == 0);
  }
}

}  // namespace facet
