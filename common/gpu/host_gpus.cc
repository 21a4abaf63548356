#include "common/gpu/host_gpus.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <sstream>
#include <utility>

#include "common/gpu/driver_query.h"

namespace facet {
namespace {

constexpr std::size_t kMaxAnswer = 1 << 16;  // some 64 GPUs of 150 bytes each, and room

// One record a line, its fields separated by tabs; names come last and hold neither.
std::string spell(const Result<HostGpus>& answer) {
  std::ostringstream text;
  if (!answer) {
    text << "error\t" << answer.error().message << "\n";
    return text.str();
  }
  text << "cuda\t" << answer->cuda_version << "\n";
  if (!answer->driver_version.empty()) text << "driver\t" << answer->driver_version << "\n";
  for (const HostGpu& gpu : answer->gpus) {
    text << "gpu\t" << gpu.uuid << "\t" << gpu.major << "\t" << gpu.minor << "\t" << gpu.total_bytes
         << "\t" << gpu.free_bytes << "\t" << gpu.name << "\n";
  }
  text << "end\n";
  return text.str();
}

Result<HostGpus> parse(const std::string& text) {
  HostGpus answer;
  std::istringstream lines(text);
  std::string line;
  while (std::getline(lines, line)) {
    std::istringstream fields(line);
    std::string kind;
    std::getline(fields, kind, '\t');
    if (kind == "end") return answer;
    if (kind == "error") return Error(Code::kUnsupported, line.substr(kind.size() + 1));
    if (kind == "cuda") fields >> answer.cuda_version;
    if (kind == "driver") std::getline(fields, answer.driver_version);
    if (kind == "gpu") {
      HostGpu& gpu = answer.gpus.emplace_back();
      fields >> gpu.uuid >> gpu.major >> gpu.minor >> gpu.total_bytes >> gpu.free_bytes;
      fields.ignore();
      std::getline(fields, gpu.name);
    }
  }
  return Error(Code::kUnsupported, "the CUDA driver ended the process that asked it for GPUs");
}

[[noreturn]] void run_child(int answer_fd) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  prctl(PR_SET_NAME, "facet-gpus");
  // Nothing of ours stays open in a child that a driver may hold on to: locks, sockets.
  close_range(STDERR_FILENO + 1, static_cast<unsigned>(answer_fd) - 1, 0);
  close_range(static_cast<unsigned>(answer_fd) + 1, ~0U, 0);
  const std::string text = spell(query_driver());
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t count = write(answer_fd, text.data() + done, text.size() - done);
    if (count <= 0) break;
    done += static_cast<std::size_t>(count);
  }
  _exit(0);
}

}  // namespace

std::string cuda_version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

bool has_gpu_driver() {
  return std::getenv("FACET_CUDA_DRIVER") != nullptr || access("/dev/nvidiactl", F_OK) == 0;
}

Result<HostGpuQuery> HostGpuQuery::start() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return errno_error("pipe", errno);
  UniqueFd read_end(ends[0]);
  // Above the standard descriptors also where those are closed.
  const UniqueFd write_end(fcntl(ends[1], F_DUPFD_CLOEXEC, 4));
  close(ends[1]);
  if (!write_end) return errno_error("pipe", errno);
  const pid_t pid = fork();
  if (pid < 0) return errno_error("fork", errno);
  if (pid == 0) run_child(write_end.get());
  return HostGpuQuery(pid, std::move(read_end));
}

Result<HostGpus> HostGpuQuery::finish(Nanos patience) {
  const Nanos deadline = monotonic_now() + patience;
  std::string text;
  while (text.size() < kMaxAnswer) {
    const Nanos left = deadline - monotonic_now();
    pollfd ready{answer_.get(), POLLIN, 0};
    const int count = left <= 0 ? 0 : poll(&ready, 1, static_cast<int>(left / kMillisecond) + 1);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      return Error(Code::kTimeout, "the CUDA driver did not list its GPUs within " +
                                       std::to_string(patience / kSecond) + " s");
    }
    char buffer[4096];
    const ssize_t got = read(answer_.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    text.append(buffer, static_cast<std::size_t>(got));
  }
  return parse(text);
}

HostGpuQuery::HostGpuQuery(HostGpuQuery&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), answer_(std::move(other.answer_)) {}

HostGpuQuery::~HostGpuQuery() {
  if (pid_ < 0) return;
  kill(pid_, SIGKILL);
  // One that the driver holds in the kernel cannot be waited for; init takes it when we end.
  for (int i = 0; i < 100 && waitpid(pid_, nullptr, WNOHANG) == 0; ++i) {
    poll(nullptr, 0, 10);
  }
}

Result<HostGpus> host_gpus() {
  HostGpuQuery query = FACET_TRY(HostGpuQuery::start());
  return query.finish();
}

}  // namespace facet
