#include "worker/service/page_writer.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>

namespace facet {

void PageWriter::Unmap::operator()(WorkerPage* page) const { munmap(page, sizeof(WorkerPage)); }

Result<PageWriter> PageWriter::map(int fd, std::uint64_t incarnation) {
  struct stat facts {};
  if (fstat(fd, &facts) != 0) return errno_error("worker page: fstat", errno);
  if (facts.st_size < static_cast<off_t>(sizeof(WorkerPage))) {
    return Error(Code::kIo, "worker page: " + std::to_string(facts.st_size) + " bytes, needs " +
                                std::to_string(sizeof(WorkerPage)));
  }
  void* memory = mmap(nullptr, sizeof(WorkerPage), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return errno_error("worker page: mmap", errno);
  PageWriter writer(static_cast<WorkerPage*>(memory));
  writer.page_->incarnation.store(incarnation, std::memory_order_relaxed);
  writer.page_->magic.store(WorkerPage::kMagic, std::memory_order_release);
  return writer;
}

void PageWriter::tick(WorkerPhase phase) {
  page_->phase.store(static_cast<std::uint32_t>(phase), std::memory_order_relaxed);
  page_->progress.fetch_add(1, std::memory_order_release);
}

void PageWriter::count_step() { page_->steps.fetch_add(1, std::memory_order_release); }

void PageWriter::set_ready() { page_->ready.store(1, std::memory_order_release); }

void PageWriter::set_settled() { page_->settled.store(1, std::memory_order_release); }

}  // namespace facet
