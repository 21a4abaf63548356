#include "broker/decoder/decode_server.h"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "broker/decoder/decode_child.h"
#include "common/base/crash_point.h"
#include "common/control/fds.h"

namespace facet {
namespace {

int open_pidfd(pid_t pid) { return static_cast<int>(syscall(SYS_pidfd_open, pid, 0)); }

std::string describe_end(const ChildEnd& end, Nanos wall_limit) {
  if (end.is_timed_out) {
    return "decoding took longer than " + std::to_string(wall_limit / kSecond) + " s";
  }
  if (end.is_out_of_cpu) return "decoding took more CPU time than allowed";
  if (WIFSIGNALED(end.wait_status)) {
    const int number = WTERMSIG(end.wait_status);
    if (number == SIGSYS) return "decoder child made a forbidden system call";
    const char* name = sigabbrev_np(number);
    return std::string("decoder child was ended by SIG") + (name != nullptr ? name : "?");
  }
  return "decoder child exited with " + std::to_string(WEXITSTATUS(end.wait_status));
}

}  // namespace

DecodeOutcome outcome_of(const ChildEnd& end, bool has_answer, bool is_decoded) {
  if (WIFEXITED(end.wait_status)) {
    const int code = WEXITSTATUS(end.wait_status);
    if (code == kExitHostMemory) return DecodeOutcome::kChildKilled;  // none to map
    if (code != 0 || !has_answer) return DecodeOutcome::kChildFault;
    return is_decoded ? DecodeOutcome::kOk : DecodeOutcome::kBadImage;
  }
  if (end.is_out_of_cpu) return DecodeOutcome::kChildFault;
  // A child can wait for nothing: what did not use up its CPU time meanwhile was not given any.
  if (end.is_timed_out) return DecodeOutcome::kChildKilled;
  switch (WTERMSIG(end.wait_status)) {
    case SIGKILL:
    case SIGTERM:
    case SIGINT:
    case SIGHUP:
    case SIGQUIT:
      return DecodeOutcome::kChildKilled;
    default:
      return DecodeOutcome::kChildFault;
  }
}

Result<DecodeServer> DecodeServer::create(const DecodeServerOptions& options) {
  struct stat ring {};
  if (fstat(options.ring_fd, &ring) != 0) {
    return errno_error("ring descriptor " + std::to_string(options.ring_fd), errno);
  }
  int type = 0;
  socklen_t length = sizeof type;
  if (getsockopt(options.job_fd, SOL_SOCKET, SO_TYPE, &type, &length) != 0 ||
      type != SOCK_SEQPACKET) {
    return Error(Code::kInvalidArgument, "job descriptor " + std::to_string(options.job_fd) +
                                             " is not a SOCK_SEQPACKET socket");
  }
  const std::string path = "/proc/self/fd/" + std::to_string(options.ring_fd);
  UniqueFd read_only_ring(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!read_only_ring) return errno_error("opening the ring for reading", errno);
  auto filter = FACET_TRY(build_sandbox_filter(kChildResultFd));
  DecodeServerOptions known = options;
  if (known.wall_limit == 0) known.wall_limit = 4 * kSecond * known.limits.cpu_seconds;
  known.max_children = std::max(known.max_children, 1u);
  return DecodeServer(known, std::move(read_only_ring), static_cast<std::uint64_t>(ring.st_size),
                      std::move(filter));
}

DecodeServer::DecodeServer(const DecodeServerOptions& options, UniqueFd read_only_ring,
                           std::uint64_t ring_bytes, std::vector<sock_filter> filter)
    : options_(options),
      read_only_ring_(std::move(read_only_ring)),
      ring_bytes_(ring_bytes),
      filter_(std::move(filter)) {}

Status DecodeServer::run() {
  std::vector<pollfd> polled;
  while (true) {
    const bool has_room = children_.size() < options_.max_children;
    polled.assign(1, {options_.job_fd, static_cast<short>(POLLRDHUP | (has_room ? POLLIN : 0)), 0});
    for (const Child& child : children_) polled.push_back({child.pidfd.get(), POLLIN, 0});
    if (poll(polled.data(), polled.size(), poll_timeout_ms()) < 0 && errno != EINTR) {
      return errno_error("poll", errno);
    }
    kill_overdue();
    FACET_TRY_STATUS(collect(polled));
    // The broker is gone: nobody waits for what is still in the socket.
    if ((polled[0].revents & (POLLHUP | POLLRDHUP | POLLERR)) != 0) break;
    if ((polled[0].revents & POLLIN) != 0 && !FACET_TRY(take_job())) break;
  }
  end_all();
  return {};
}

Result<bool> DecodeServer::take_job() {
  DecodeJob job;
  const ssize_t count = recv(options_.job_fd, &job, sizeof job, MSG_DONTWAIT | MSG_TRUNC);
  if (count == 0) return false;
  if (count < 0) {
    if (errno == EAGAIN || errno == EINTR) return true;
    if (errno == ECONNRESET) return false;
    return errno_error("job socket", errno);
  }
  if (count != sizeof job) {
    std::fprintf(stderr, "facet-decoder: dropped a job packet of %zd bytes\n", count);
    return true;
  }
  FACET_CRASH_POINT("decoder.job");
  if (const Status checked = check_job(job, ring_bytes_); !checked) {
    FACET_TRY_STATUS(reply(job.job, DecodeOutcome::kBadImage, checked.error().message.c_str()));
    return true;
  }
  if (const Status started = start_child(job); !started) {
    FACET_TRY_STATUS(reply(job.job, DecodeOutcome::kChildKilled, started.error().message.c_str()));
  }
  return true;
}

Status DecodeServer::start_child(const DecodeJob& job) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return errno_error("pipe for a decoder child", errno);
  UniqueFd read_end(ends[0]);
  const UniqueFd write_end(ends[1]);
  const ChildSetup setup{
      .ring_fd = options_.ring_fd,
      .read_only_ring_fd = read_only_ring_.get(),
      .result_fd = write_end.get(),
      .lifeline_fd = options_.lifeline_fd,
      .server = getpid(),
      .limits = options_.limits,
      .filter = &filter_,
      .decode = options_.decode,
  };
  const pid_t pid = fork();
  if (pid < 0) return errno_error("fork of a decoder child", errno);
  if (pid == 0) run_decode_child(job, setup);
  Child child;
  child.job = job.job;
  child.pid = pid;
  child.pidfd.reset(open_pidfd(pid));
  child.result = std::move(read_end);
  child.deadline = monotonic_now() + options_.wall_limit;
  if (!child.pidfd) {  // out of descriptors: without eyes on it, it may not run
    const int error = errno;
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    return errno_error("pidfd_open of a decoder child", error);
  }
  children_.push_back(std::move(child));
  return {};
}

void DecodeServer::kill_overdue() {
  const Nanos now = monotonic_now();
  for (Child& child : children_) {
    if (child.is_timed_out || now < child.deadline) continue;
    child.is_timed_out = true;
    kill(child.pid, SIGKILL);  // not yet waited for: the pid is still its own
  }
}

Status DecodeServer::collect(const std::vector<pollfd>& polled) {
  Status status;
  for (std::size_t i = 1; i < polled.size(); ++i) {
    if (polled[i].revents == 0) continue;
    const auto child = std::find_if(
        children_.begin(), children_.end(),
        [&](const Child& candidate) { return candidate.pidfd.get() == polled[i].fd; });
    if (child == children_.end()) continue;
    status = finish_child(*child);
    children_.erase(child);
    if (!status) break;
  }
  return status;
}

Status DecodeServer::finish_child(Child& child) {
  ChildEnd end;
  rusage used{};
  wait4(child.pid, &end.wait_status, 0, &used);
  end.is_timed_out = child.is_timed_out;
  const auto cpu_seconds = used.ru_utime.tv_sec + used.ru_stime.tv_sec;
  end.is_out_of_cpu = WIFSIGNALED(end.wait_status) &&
                      (WTERMSIG(end.wait_status) == SIGXCPU ||
                       cpu_seconds >= static_cast<long>(options_.limits.cpu_seconds));
  ChildAnswer answer;
  const bool has_answer = read(child.result.get(), &answer, sizeof answer) == sizeof answer;
  answer.message[sizeof answer.message - 1] = '\0';
  const DecodeOutcome outcome = outcome_of(end, has_answer, answer.is_decoded == 1);
  FACET_CRASH_POINT("decoder.reply");
  if (outcome == DecodeOutcome::kOk) return reply(child.job, outcome, "");
  if (outcome == DecodeOutcome::kBadImage) return reply(child.job, outcome, answer.message);
  return reply(child.job, outcome, describe_end(end, options_.wall_limit).c_str());
}

Status DecodeServer::reply(std::uint64_t job, DecodeOutcome outcome, const char* message) {
  DecodeReply packet;
  packet.job = job;
  packet.outcome = outcome;
  std::snprintf(packet.message, sizeof packet.message, "%s", message);
  // Blocks when the broker does not read: it has at most one reply per job outstanding.
  while (send(options_.job_fd, &packet, sizeof packet, MSG_NOSIGNAL) < 0) {
    if (errno == EINTR) continue;
    if (errno == EPIPE || errno == ECONNRESET) return {};  // run() sees the end of file next
    return errno_error("reply to the broker", errno);
  }
  return {};
}

int DecodeServer::poll_timeout_ms() const {
  Nanos earliest = -1;
  for (const Child& child : children_) {
    if (child.is_timed_out) continue;
    if (earliest < 0 || child.deadline < earliest) earliest = child.deadline;
  }
  if (earliest < 0) return -1;
  return static_cast<int>(std::max<Nanos>(0, earliest - monotonic_now()) / kMillisecond + 1);
}

void DecodeServer::end_all() {
  for (const Child& child : children_) kill(child.pid, SIGKILL);
  for (const Child& child : children_) waitpid(child.pid, nullptr, 0);
  children_.clear();
}

}  // namespace facet
