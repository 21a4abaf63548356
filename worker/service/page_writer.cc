#include "worker/service/page_writer.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

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

void PageWriter::set_ready() {
  // Before the broker's page is looked at again: see BrokerPage::epoch.
  page_->ready.store(1, std::memory_order_seq_cst);
}

void PageWriter::set_settled() { page_->settled.store(1, std::memory_order_release); }

void PageWriter::show_requests(std::span<const RequestId> held) {
  BlackBox& box = page_->black_box;
  const std::uint32_t hidden = (box.shown.load(std::memory_order_relaxed) & 1) ^ 1;
  BlackBox::Side& side = box.sides[hidden];
  const std::size_t count = std::min(held.size(), BlackBox::kMaxRequests);
  for (std::size_t i = 0; i < count; ++i) {
    std::uint64_t halves[2];
    std::memcpy(halves, held[i].bytes.data(), sizeof halves);
    side.ids[i][0].store(halves[0], std::memory_order_relaxed);
    side.ids[i][1].store(halves[1], std::memory_order_relaxed);
  }
  side.num_requests.store(static_cast<std::uint32_t>(count), std::memory_order_relaxed);
  box.shown.store(hidden, std::memory_order_release);
}

}  // namespace facet
