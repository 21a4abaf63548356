#include "broker/supervisor/child_process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <string>

#include "tests/patience.h"

namespace facet {
namespace {

ChildEnd wait_for(ChildProcess& child) {
  pollfd polled{child.pidfd(), POLLIN, 0};
  EXPECT_EQ(poll(&polled, 1, patient_ms(10'000)), 1);
  const auto end = child.reap();
  EXPECT_TRUE(end);
  return end.value_or(ChildEnd{});
}

ChildProgram shell(const std::string& script, std::vector<std::pair<int, int>> fds = {}) {
  return {"/bin/sh", {"-c", script}, std::move(fds)};
}

TEST(ChildProcess, WaitsUntilReleasedAndTellsItsExit) {
  const UniqueFd file(memfd_create("out", MFD_CLOEXEC));
  auto child = ChildProcess::fork_waiting(shell("echo hello >&3; exit 7", {{file.get(), 3}}));
  ASSERT_TRUE(child);
  EXPECT_FALSE(child->reap());  // still there
  EXPECT_EQ(lseek(file.get(), 0, SEEK_END), 0);
  ASSERT_TRUE(child->release());
  const ChildEnd end = wait_for(*child);
  EXPECT_FALSE(end.is_signalled);
  EXPECT_EQ(end.code, 7);
  EXPECT_EQ(lseek(file.get(), 0, SEEK_END), 6);
}

TEST(ChildProcess, MissingProgramIsNamed) {
  auto child = ChildProcess::fork_waiting({"/no/such/program", {}, {}});
  ASSERT_TRUE(child);
  const Status released = child->release();
  ASSERT_FALSE(released);
  EXPECT_EQ(released.error().message, "/no/such/program: No such file or directory");
  EXPECT_EQ(waitpid(child->pid(), nullptr, WNOHANG), -1);  // reaped
}

TEST(ChildProcess, NothingElseIsOpenAndNumbersMayCross) {
  const UniqueFd report(memfd_create("report", MFD_CLOEXEC));
  const UniqueFd stray(open("/dev/null", O_RDONLY));  // not close-on-exec: somebody forgot
  UniqueFd low[4];  // whatever number is low is in use, and each goes where another one lies
  for (auto& fd : low) fd.reset(open("/dev/zero", O_RDONLY));
  std::vector<std::pair<int, int>> fds = {{report.get(), 3}};
  for (int i = 0; i < 4; ++i) fds.emplace_back(low[3 - i].get(), 4 + i);
  auto child = ChildProcess::fork_waiting(shell("ls -l /proc/self/fd >&3", std::move(fds)));
  ASSERT_TRUE(child);
  ASSERT_TRUE(child->release());
  EXPECT_EQ(wait_for(*child).code, 0);
  std::string text(4096, '\0');
  text.resize(static_cast<std::size_t>(pread(report.get(), text.data(), text.size(), 0)));
  const auto has = [&](const std::string& part) { return text.find(part) != text.npos; };
  EXPECT_TRUE(has(" 0 -> /dev/null")) << text;
  EXPECT_TRUE(has(" 7 -> /dev/zero")) << text;
  for (int fd = 9; fd < 256; ++fd) EXPECT_FALSE(has(" " + std::to_string(fd) + " -> ")) << text;
}

TEST(ChildProcess, SignalsAndStops) {
  auto child = ChildProcess::fork_waiting({"/bin/sleep", {"60"}, {}});
  ASSERT_TRUE(child && child->release());
  EXPECT_FALSE(child->is_stopped());
  EXPECT_EQ(getpgid(child->pid()), child->pid());  // a terminal's Ctrl-C does not reach it
  child->signal(SIGSTOP);
  siginfo_t info{};
  waitid(P_PID, static_cast<id_t>(child->pid()), &info, WSTOPPED);
  EXPECT_TRUE(child->is_stopped());
  EXPECT_FALSE(child->reap());
  child->signal(SIGKILL);
  const ChildEnd end = wait_for(*child);
  EXPECT_TRUE(end.is_signalled);
  EXPECT_EQ(end.code, SIGKILL);
}

TEST(ChildProcess, DiesWithItsParent) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const pid_t parent = fork();
  if (parent == 0) {
    auto waiting = ChildProcess::fork_waiting({"/bin/sleep", {"60"}, {{ends[1], 3}}});
    auto running = ChildProcess::fork_waiting({"/bin/sleep", {"60"}, {{ends[1], 3}}});
    if (!waiting || !running || !running->release()) _exit(1);
    kill(getpid(), SIGKILL);
  }
  close(ends[1]);
  waitpid(parent, nullptr, 0);
  pollfd polled{ends[0], POLLIN, 0};
  EXPECT_EQ(poll(&polled, 1, patient_ms(5000)), 1);  // end of file: both are gone
  char byte = 0;
  EXPECT_EQ(read(ends[0], &byte, 1), 0);
  close(ends[0]);
}

}  // namespace
}  // namespace facet
