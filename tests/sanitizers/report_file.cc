// Linked into every program of a build with UBSan. gcc's libubsan and libasan are two libraries,
// and the log_path of the former is lost to the latter's function of the same name: its report goes
// to stderr, which a test may never look at. It calls this before it writes, and ends the process
// after it: so stderr becomes the file that log_path names.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

extern "C" void __ubsan_on_report() {
  const char* log_path = std::getenv("UBSAN_REPORTS");  // of tests/sanitizers/run_test.py
  if (log_path == nullptr) return;
  char path[4096];
  std::snprintf(path, sizeof path, "%s.%d", log_path, static_cast<int>(getpid()));
  const int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (file >= 0) dup2(file, STDERR_FILENO);
}
