#include "broker/cli/stop_signal.h"

#include <signal.h>

#include <atomic>

namespace facet {
namespace {

std::atomic<int> level{0};
static_assert(std::atomic<int>::is_always_lock_free);

void on_signal(int number) {
  level += number == SIGINT ? 1 : 2;
}

}  // namespace

void install_stop_signals() {
  struct sigaction action {};
  action.sa_handler = on_signal;  // without SA_RESTART: waiting ends
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) sigaction(number, &action, nullptr);
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  // A closed pipe or a file at its size limit is an error of write().
  for (const int number : {SIGPIPE, SIGXFSZ}) sigaction(number, &ignore, nullptr);
}

StopLevel stop_level() {
  const int now = level;
  return now == 0 ? StopLevel::kNone : now == 1 ? StopLevel::kFinish : StopLevel::kQuit;
}

}  // namespace facet
