#include "broker/supervisor/watched_page.h"

#include <cerrno>
#include <sys/mman.h>
#include <unistd.h>

namespace facet {

void WatchedPage::Unmap::operator()(const WorkerPage* page) const {
  munmap(const_cast<WorkerPage*>(page), sizeof(WorkerPage));
}

Result<WatchedPage> WatchedPage::create() {
  WatchedPage watched;
  watched.fd_.reset(memfd_create("worker-page", MFD_CLOEXEC));
  if (!watched.fd_) return errno_error("memfd_create", errno);
  if (ftruncate(watched.fd_.get(), sizeof(WorkerPage)) != 0) return errno_error("ftruncate", errno);
  void* memory =
      mmap(nullptr, sizeof(WorkerPage), PROT_READ, MAP_SHARED, watched.fd_.get(), 0);
  if (memory == MAP_FAILED) return errno_error("mmap of a worker's page", errno);
  watched.page_.reset(static_cast<const WorkerPage*>(memory));
  return watched;
}

PageSeen WatchedPage::read(const ChildId& id) const {
  PageSeen seen{.id = id};
  if (page_->magic.load(std::memory_order_acquire) != WorkerPage::kMagic) return seen;
  if (page_->incarnation.load(std::memory_order_relaxed) != id.incarnation) return seen;
  seen.progress = page_->progress.load(std::memory_order_acquire);
  seen.phase = static_cast<WorkerPhase>(page_->phase.load(std::memory_order_relaxed));
  seen.steps = page_->steps.load(std::memory_order_relaxed);
  seen.is_ready = page_->ready.load(std::memory_order_acquire) == 1;
  return seen;
}

}  // namespace facet
