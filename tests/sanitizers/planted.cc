// A parent that succeeds and a child with a defect for whichever sanitizer this was built with.
#include <sys/wait.h>
#include <unistd.h>

#include <climits>
#include <thread>

namespace {

volatile int g_shared = 0;

// Volatile, so that no compiler sees what comes.
void heap_overflow() {
  char* volatile memory = new char[8];
  volatile int index = 8;
  memory[index] = 1;
  delete[] memory;
}

void signed_overflow() {
  volatile int most = INT_MAX;
  most = most + 1;
}

void race() {
  std::thread other([] { g_shared = 1; });
  g_shared = 2;
  other.join();
}

}  // namespace

int main(int, char** arguments) {
  const char which = arguments[1][0];
  const pid_t child = fork();
  if (child == 0) {
    if (which == 'a') heap_overflow();
    if (which == 'u') signed_overflow();
    if (which == 't') race();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return 0;  // what became of the child is not this program's business
}
