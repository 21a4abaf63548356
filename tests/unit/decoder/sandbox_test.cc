#include "broker/decoder/sandbox.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <functional>

#include "tests/sanitizers/excused.h"

namespace facet {
namespace {

// Wait status of a forked child that enters the sandbox and then does `deed`.
int status_of(const std::function<void()>& deed, SandboxLimits limits = {}) {
  const auto filter = build_sandbox_filter(3);
  EXPECT_TRUE(filter);
  const pid_t pid = fork();
  if (pid == 0) {
    if (!enter_sandbox(*filter, limits)) _exit(99);
    deed();
    _exit(0);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  return status;
}

void expect_forbidden(const char* name, const std::function<void()>& deed) {
  const int status = status_of(deed);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) << name << ": " << status;
}

TEST(Sandbox, ForbidsTheOutsideWorld) {
  expect_forbidden("open", [] { syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY); });
  expect_forbidden("socket", [] { socket(AF_INET, SOCK_STREAM, 0); });
  expect_forbidden("execve", [] { syscall(SYS_execve, "/bin/true", nullptr, nullptr); });
  expect_forbidden("fork", [] { syscall(SYS_fork); });
  expect_forbidden("clone", [] { syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); });
  expect_forbidden("kill", [] { syscall(SYS_kill, getppid(), SIGTERM); });
  expect_forbidden("ptrace", [] { syscall(SYS_ptrace, 0, 0, 0, 0); });
  expect_forbidden("read", [] { syscall(SYS_read, 0, nullptr, 0); });
  expect_forbidden("write elsewhere", [] { syscall(SYS_write, 2, "x", 1); });
  expect_forbidden("executable memory", [] {
    syscall(SYS_mmap, nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  });
  expect_forbidden("prctl", [] { syscall(SYS_prctl, 1, 0, 0, 0, 0); });
  expect_forbidden("ftruncate", [] { syscall(SYS_ftruncate, 3, 0); });
}

TEST(Sandbox, LetsWorkBeDone) {
  const int status = status_of([] {
    for (int i = 0; i < 50; ++i) {
      void* volatile block = std::malloc(static_cast<std::size_t>(i) << 16);
      std::free(block);
    }
    write(3, "", 0);  // closed here: an error, not a kill
  });
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

TEST(Sandbox, EndsEndlessWork) {
  SandboxLimits limits;
  limits.cpu_seconds = 1;
  const int status = status_of([] {
    volatile bool is_endless = true;
    while (is_endless) {
    }
  }, limits);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU) << status;
}

TEST(Sandbox, BoundsMemory) {
  if (is_excused("sandbox_test.memory")) GTEST_SKIP();
  SandboxLimits limits;
  limits.memory_bytes = 256 << 20;
  const int status = status_of(
      [] {
        if (std::malloc(300 << 20) != nullptr) _exit(1);
      },
      limits);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

}  // namespace
}  // namespace facet
