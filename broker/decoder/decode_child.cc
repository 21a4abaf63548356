#include "broker/decoder/decode_child.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <span>
#include <string_view>

#include "broker/decoder/decode_image.h"
#include "common/base/crash_point.h"
#include "common/control/fds.h"

namespace facet {
namespace {

constexpr std::uint64_t kPage = 4096;
// Beside each run, never readable nor writable: more than ten rows of the widest image, so that a
// codec that runs over an end dies there, and not in what the kernel has mapped next to it.
constexpr std::uint64_t kGuardBytes = 1 << 20;

bool is_inside(std::uint64_t offset, std::uint64_t bytes, std::uint64_t total) {
  return offset <= total && bytes <= total - offset;
}

// A truncated message stays valid UTF-8 by being ASCII throughout.
[[noreturn]] void answer(bool is_decoded, std::string_view message) {
  ChildAnswer reply;
  reply.is_decoded = is_decoded ? 1 : 0;
  const std::size_t length = std::min(message.size(), sizeof reply.message - 1);
  std::transform(message.begin(), message.begin() + static_cast<std::ptrdiff_t>(length),
                 reply.message, [](char c) { return c >= ' ' && c <= '~' ? c : '?'; });
  const ssize_t written = write(kChildResultFd, &reply, sizeof reply);
  _exit(written == sizeof reply ? kExitOk : kExitFailure);
}

// The run at `offset` of the ring, between two guards; nullptr when the host has no room for it.
void* map_run(int ring_fd, std::uint64_t offset, std::uint64_t bytes, int protection) {
  const std::uint64_t whole = (bytes + kPage - 1) / kPage * kPage;
  void* reserved = mmap(nullptr, whole + 2 * kGuardBytes, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return nullptr;
  void* run = mmap(static_cast<std::uint8_t*>(reserved) + kGuardBytes, bytes, protection,
                   MAP_SHARED | MAP_FIXED, ring_fd, static_cast<off_t>(offset));
  return run == MAP_FAILED ? nullptr : run;
}

// Moves what stays to its place and closes everything else, standard streams included.
void keep_only(const ChildSetup& setup) {
  // Out of the way first: a source may lie on a target.
  const int result = fcntl(setup.result_fd, F_DUPFD, 16);
  const int lifeline = setup.lifeline_fd >= 0 ? fcntl(setup.lifeline_fd, F_DUPFD, 16) : -1;
  dup2(result, kChildResultFd);
  if (lifeline >= 0) dup2(lifeline, kChildLifelineFd);
  close_range(lifeline >= 0 ? kChildLifelineFd + 1 : kChildLifelineFd, ~0u, 0);
  close_range(0, 2, 0);
}

}  // namespace

Status check_job(const DecodeJob& job, std::uint64_t ring_bytes) {
  const auto wrong = [](const char* what) {
    return Error(Code::kCorrupt, std::string("decode job is wrong: ") + what);
  };
  if (job.encoded_offset % kPage != 0 || job.pixels_offset % kPage != 0) {
    return wrong("an offset is not a page multiple");
  }
  if (job.encoded_bytes == 0) return wrong("no encoded bytes");
  if (job.width == 0 || job.height == 0) return wrong("no pixels");
  // 2^32 * 2^32 * 3 would not fit; no ring is that large, so the division finds it.
  if (job.pixels_bytes % 3 != 0 || job.pixels_bytes / 3 / job.width != job.height ||
      job.pixels_bytes / 3 % job.width != 0) {
    return wrong("the pixel run does not fit width and height");
  }
  if (!is_inside(job.encoded_offset, job.encoded_bytes, ring_bytes)) {
    return wrong("the encoded run lies outside the ring");
  }
  if (!is_inside(job.pixels_offset, job.pixels_bytes, ring_bytes)) {
    return wrong("the pixel run lies outside the ring");
  }
  if (job.encoded_offset < job.pixels_offset + job.pixels_bytes &&
      job.pixels_offset < job.encoded_offset + job.encoded_bytes) {
    return wrong("the runs overlap");
  }
  return {};
}

void run_decode_child(const DecodeJob& job, const ChildSetup& setup) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != setup.server) _exit(kExitFailure);
  FACET_CRASH_POINT("decoder.child");
  prctl(PR_SET_NAME, "decoder-child");
  void* encoded =
      map_run(setup.read_only_ring_fd, job.encoded_offset, job.encoded_bytes, PROT_READ);
  void* pixels =
      map_run(setup.ring_fd, job.pixels_offset, job.pixels_bytes, PROT_READ | PROT_WRITE);
  keep_only(setup);
  // Not the image's fault: an end without an answer makes the server say so.
  if (encoded == nullptr || pixels == nullptr) _exit(kExitHostMemory);
  if (!enter_sandbox(*setup.filter, setup.limits)) _exit(kExitFailure);
  const Status status =
      setup.decode({static_cast<const std::uint8_t*>(encoded), job.encoded_bytes}, job.width,
                   job.height, {static_cast<std::uint8_t*>(pixels), job.pixels_bytes});
  FACET_CRASH_POINT("decoder.decoded");
  answer(status.has_value(), status ? std::string_view() : status.error().message);
}

}  // namespace facet
