#include "broker/supervisor/worker_watch.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/request_id.h"
#include "common/control/fds.h"

namespace facet {
namespace {

const char* phase_name(std::uint32_t phase) {
  switch (static_cast<WorkerPhase>(phase)) {
    case WorkerPhase::kStarting: return "starting";
    case WorkerPhase::kLoad: return "load";
    case WorkerPhase::kWarmUp: return "warmup";
    case WorkerPhase::kIdle: return "idle";
    case WorkerPhase::kEncode: return "encode";
    case WorkerPhase::kPrefill: return "prefill";
    case WorkerPhase::kDecode: return "decode";
    case WorkerPhase::kDraining: return "draining";
  }
  return "?";
}

}  // namespace

void WorkerWatch::Unmap::operator()(const WorkerPage* page) const {
  munmap(const_cast<WorkerPage*>(page), sizeof(WorkerPage));
}

Result<WorkerWatch> WorkerWatch::create() {
  WorkerWatch watch;
  watch.page_fd_.reset(memfd_create("worker-page", MFD_CLOEXEC));
  if (!watch.page_fd_) return errno_error("memfd_create", errno);
  if (ftruncate(watch.page_fd_.get(), sizeof(WorkerPage)) != 0) {
    return errno_error("ftruncate", errno);
  }
  void* memory =
      mmap(nullptr, sizeof(WorkerPage), PROT_READ, MAP_SHARED, watch.page_fd_.get(), 0);
  if (memory == MAP_FAILED) return errno_error("mmap of a worker's page", errno);
  watch.page_.reset(static_cast<const WorkerPage*>(memory));
  watch.bell_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!watch.bell_) return errno_error("eventfd", errno);
  for (std::size_t i = 0; i < watch.sentinels_.size(); ++i) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return errno_error("pipe", errno);
    watch.sentinels_[i].reset(ends[0]);
    watch.sentinels_write_[i].reset(ends[1]);
  }
  return watch;
}

std::vector<std::pair<int, int>> WorkerWatch::worker_fds() const {
  return {{page_fd_.get(), kWorkerPageFd}, {bell_.get(), kWorkerLastWordsFd},
          {sentinels_write_[0].get(), kWorkerSentinelFds[0]},
          {sentinels_write_[1].get(), kWorkerSentinelFds[1]}};
}

void WorkerWatch::close_handed_over() {
  page_fd_.reset();
  for (UniqueFd& end : sentinels_write_) end.reset();
}

void WorkerWatch::dismiss_sentinels() {
  for (UniqueFd& end : sentinels_) end.reset();
}

bool WorkerWatch::is_signed_by(const ChildId& id) const {
  return page_->magic.load(std::memory_order_acquire) == WorkerPage::kMagic &&
         page_->incarnation.load(std::memory_order_relaxed) == id.incarnation;
}

PageSeen WorkerWatch::read(const ChildId& id) const {
  PageSeen seen{.id = id};
  if (!is_signed_by(id)) return seen;
  seen.progress = page_->progress.load(std::memory_order_acquire);
  seen.phase = static_cast<WorkerPhase>(page_->phase.load(std::memory_order_relaxed));
  seen.steps = page_->steps.load(std::memory_order_relaxed);
  seen.is_ready = page_->ready.load(std::memory_order_seq_cst) == 1;
  return seen;
}

void WorkerWatch::silence() {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t taken = ::read(bell_.get(), &count, sizeof count);
}

std::optional<FatalSignal> WorkerWatch::last_words(const ChildId& id, std::uint32_t pid) const {
  if (!is_signed_by(id)) return std::nullopt;
  const LastWords& words = page_->last_words;
  const auto number = static_cast<int>(words.signal.load(std::memory_order_acquire));
  switch (number) {
    case SIGSEGV:
    case SIGBUS:
    case SIGILL:
    case SIGFPE:
    case SIGABRT:
      break;
    default:
      return std::nullopt;
  }
  const int code = words.signal_code.load(std::memory_order_relaxed);
  const std::uint32_t sender = words.sender_pid.load(std::memory_order_relaxed);
  return FatalSignal{number, code, code <= 0 && sender == pid};
}

std::string WorkerWatch::black_box() const {
  const BlackBox& box = page_->black_box;
  const BlackBox::Side& side = box.sides[box.shown.load(std::memory_order_acquire) & 1];
  const std::size_t count = std::min<std::size_t>(
      side.num_requests.load(std::memory_order_relaxed), BlackBox::kMaxRequests);
  const bool has_words = page_->last_words.signal.load(std::memory_order_acquire) != 0;
  const std::atomic<std::uint32_t>& phase = has_words ? page_->last_words.phase : page_->phase;
  std::string text = std::string("phase=") + phase_name(phase.load(std::memory_order_relaxed)) +
                     " held=" + std::to_string(count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t halves[] = {side.ids[i][0].load(std::memory_order_relaxed),
                                    side.ids[i][1].load(std::memory_order_relaxed)};
    RequestId id;
    std::memcpy(id.bytes.data(), halves, sizeof halves);
    text += (i == 0 ? " requests=" : ",") + id.hex();
  }
  return text;
}

}  // namespace facet
