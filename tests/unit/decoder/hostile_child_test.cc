// A decoder taken over by its image: what it may try from inside the child of a real server.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "broker/decoder/decode_child.h"
#include "broker/decoder/decode_server.h"
#include "tests/patience.h"

namespace facet {
namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kRunBytes = 3 * 64 * 64;  // three pages: the guard begins at its end
constexpr std::uint64_t kPixelsOffset = 8 * kPage;
constexpr std::uint64_t kRingBytes = 32 * kPage;
constexpr std::uint8_t kUntouched = 0xa5;

using Encoded = std::span<const std::uint8_t>;
using Pixels = std::span<std::uint8_t>;

void poke(const std::uint8_t* at) { *const_cast<volatile std::uint8_t*>(at) = 1; }

// What the taken-over codec does: the first encoded byte says it.
struct Deed {
  const char* name;
  bool is_memory;  // ends by SIGSEGV; else a forbidden system call
  void (*act)(Encoded, Pixels);
};

const Deed kDeeds[] = {
    {"open", false, [](Encoded, Pixels) { syscall(SYS_openat, AT_FDCWD, "/etc/passwd", 0); }},
    {"create", false,
     [](Encoded, Pixels) { syscall(SYS_open, "/tmp/hostile", O_CREAT | O_WRONLY, 0600); }},
    {"socket", false, [](Encoded, Pixels) { syscall(SYS_socket, AF_INET, SOCK_STREAM, 0); }},
    {"unix socket", false, [](Encoded, Pixels) { syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0); }},
    {"execve", false, [](Encoded, Pixels) { syscall(SYS_execve, "/bin/true", 0, 0); }},
    {"execveat", false, [](Encoded, Pixels) { syscall(SYS_execveat, 3, "", 0, 0, 0x1000); }},
    {"kill the server", false, [](Encoded, Pixels) { syscall(SYS_kill, getppid(), SIGKILL); }},
    {"read the result pipe", false, [](Encoded, Pixels p) { syscall(SYS_read, 3, p.data(), 1); }},
    {"write to the lifeline", false,
     [](Encoded, Pixels) { syscall(SYS_write, kChildLifelineFd, "x", 1); }},
    {"make memory executable", false,
     [](Encoded e, Pixels) {
       syscall(SYS_mprotect, e.data(), kPage, PROT_READ | PROT_WRITE | PROT_EXEC);
     }},
    {"write into another process", false,
     [](Encoded, Pixels p) {
       iovec here{p.data(), 1};
       syscall(SYS_process_vm_writev, getppid(), &here, 1, &here, 1, 0);
     }},
    {"io_uring", false, [](Encoded, Pixels p) { syscall(SYS_io_uring_setup, 8, p.data()); }},
    {"punch a hole", false,
     [](Encoded, Pixels p) { syscall(SYS_madvise, p.data(), kPage, MADV_REMOVE); }},
    {"grow the run over its neighbours", true,
     [](Encoded, Pixels p) {
       void* grown = mremap(p.data(), p.size(), 2 * p.size(), MREMAP_MAYMOVE);
       poke((grown == MAP_FAILED ? p.data() : static_cast<std::uint8_t*>(grown)) + p.size());
     }},
    {"make the encoded bytes writable", true,
     [](Encoded e, Pixels) {
       mprotect(const_cast<std::uint8_t*>(e.data()), kPage, PROT_READ | PROT_WRITE);
       poke(e.data());
     }},
    {"write past the pixels", true, [](Encoded, Pixels p) { poke(p.data() + p.size()); }},
    {"write a long way past the pixels", true,
     [](Encoded, Pixels p) { poke(p.data() + p.size() + 3 * 16384 * 10); }},
    {"write before the pixels", true, [](Encoded, Pixels p) { poke(p.data() - 1); }},
    {"write a long way before the pixels", true,
     [](Encoded, Pixels p) { poke(p.data() - 3 * 16384 * 10); }},
    {"write into the encoded bytes", true, [](Encoded e, Pixels) { poke(e.data()); }},
    {"write past the encoded bytes", true, [](Encoded e, Pixels) { poke(e.data() + kPage); }},
    {"read past the encoded bytes", true,
     [](Encoded e, Pixels p) { p[0] = *const_cast<volatile const std::uint8_t*>(&e[0] + kPage); }},
};

Status hostile_decode(Encoded encoded, std::uint32_t, std::uint32_t, Pixels pixels) {
  if (encoded[0] < std::size(kDeeds)) {
    kDeeds[encoded[0]].act(encoded, pixels);
    return {};  // got away with it: the outcome would be kOk
  }
  std::memset(pixels.data(), encoded[0], pixels.size());
  return {};
}

class HostileChild : public ::testing::Test {
 protected:
  void SetUp() override {
    ring_ = memfd_create("ring", MFD_CLOEXEC);
    ASSERT_EQ(ftruncate(ring_, kRingBytes), 0);
    map_ = static_cast<std::uint8_t*>(
        mmap(nullptr, kRingBytes, PROT_READ | PROT_WRITE, MAP_SHARED, ring_, 0));
    ASSERT_NE(map_, MAP_FAILED);
    std::memset(map_, kUntouched, kRingBytes);
    int jobs[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, jobs), 0);
    ASSERT_EQ(pipe2(lifeline_, O_CLOEXEC), 0);
    server_ = fork();
    if (server_ == 0) {
      close(jobs[0]);
      DecodeServerOptions options;
      options.job_fd = jobs[1];
      options.ring_fd = ring_;
      options.lifeline_fd = lifeline_[1];
      options.decode = hostile_decode;
      auto server = DecodeServer::create(options);
      _exit(server && server->run() ? 0 : 1);
    }
    close(jobs[1]);
    close(lifeline_[1]);
    jobs_ = jobs[0];
  }

  void TearDown() override {
    close(jobs_);
    int status = 0;
    waitpid(server_, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    char nothing = 0;
    EXPECT_EQ(read(lifeline_[0], &nothing, 1), 0);  // nobody wrote, nobody is left
    close(lifeline_[0]);
    munmap(map_, kRingBytes);
    close(ring_);
  }

  DecodeReply decode(std::uint8_t deed) {
    map_[0] = deed;
    DecodeJob job;
    job.job = ++last_job_;
    job.encoded_bytes = kPage;
    job.pixels_offset = kPixelsOffset;
    job.pixels_bytes = kRunBytes;
    job.width = job.height = 64;
    EXPECT_EQ(send(jobs_, &job, sizeof job, 0), static_cast<ssize_t>(sizeof job));
    pollfd answer{jobs_, POLLIN, 0};
    DecodeReply reply;
    EXPECT_EQ(poll(&answer, 1, patient_ms(30'000)), 1) << "no reply in 30 s";
    if (answer.revents == 0) return reply;
    EXPECT_EQ(recv(jobs_, &reply, sizeof reply, 0), static_cast<ssize_t>(sizeof reply));
    EXPECT_EQ(reply.job, last_job_);
    return reply;
  }

  // All of the ring but the encoded page and the run.
  bool is_rest_untouched() const {
    for (std::uint64_t at = kPage; at < kRingBytes; ++at) {
      const bool is_run = at >= kPixelsOffset && at < kPixelsOffset + kRunBytes;
      if (!is_run && map_[at] != kUntouched) return false;
    }
    return true;
  }

  int ring_ = -1;
  int jobs_ = -1;
  int lifeline_[2] = {-1, -1};
  pid_t server_ = -1;
  std::uint64_t last_job_ = 0;
  std::uint8_t* map_ = nullptr;
};

TEST_F(HostileChild, EachDeedEndsTheChildAndNothingElse) {
  for (std::uint8_t deed = 0; deed < std::size(kDeeds); ++deed) {
    const DecodeReply reply = decode(deed);
    EXPECT_EQ(reply.outcome, DecodeOutcome::kChildFault) << kDeeds[deed].name;
    EXPECT_STREQ(reply.message, kDeeds[deed].is_memory
                                    ? "decoder child was ended by SIGSEGV"
                                    : "decoder child made a forbidden system call")
        << kDeeds[deed].name;
    EXPECT_EQ(map_[0], deed) << kDeeds[deed].name;
    EXPECT_TRUE(is_rest_untouched()) << kDeeds[deed].name;
    // The server serves on.
    ASSERT_EQ(decode(200).outcome, DecodeOutcome::kOk) << kDeeds[deed].name;
    EXPECT_EQ(map_[kPixelsOffset], 200);
    EXPECT_EQ(map_[kPixelsOffset + kRunBytes - 1], 200);
  }
  EXPECT_NE(access("/tmp/hostile", F_OK), 0);
}

}  // namespace
}  // namespace facet
