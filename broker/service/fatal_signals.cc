#include "broker/service/fatal_signals.h"

#include <unistd.h>

#include <array>
#include <csignal>

#include "common/base/check.h"
#include "common/shm/ledger.h"

namespace facet {
namespace {

constexpr std::array kFatalSignals = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};

// Written before the handlers are installed, only read by them.
std::atomic<std::uint64_t>* g_handling = nullptr;
std::array<char, 64 << 10> g_signal_stack;

// Only async-signal-safe calls. SA_RESETHAND has restored the default action: a fault happens again
// on return, and raise() sends what was sent.
void on_fatal_signal(int number, siginfo_t* info, void*) {
  const bool is_fault = info->si_code > 0;
  // The main thread works on records; a fault in one of ZeroMQ's says nothing about them.
  const bool is_own = (is_fault || info->si_pid == getpid()) && gettid() == getpid();
  const bool is_hang = !is_fault && info->si_pid == getppid();
  if (is_own || is_hang) g_handling->fetch_or(LedgerWriter::kHandlingFault);
  if (!is_fault) raise(number);
}

}  // namespace

void blame_record_in_hand(std::atomic<std::uint64_t>& handling) {
  g_handling = &handling;
  stack_t stack{.ss_sp = g_signal_stack.data(), .ss_flags = 0, .ss_size = g_signal_stack.size()};
  FACET_CHECK(sigaltstack(&stack, nullptr) == 0);
  for (const int number : kFatalSignals) {
    struct sigaction action {};
    action.sa_sigaction = on_fatal_signal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | static_cast<int>(SA_RESETHAND);
    FACET_CHECK(sigaction(number, &action, nullptr) == 0);
  }
}

}  // namespace facet
