// The worker's side of its page (common/control/worker_page.h).
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "common/base/request_id.h"
#include "common/base/result.h"
#include "common/control/worker_page.h"

namespace facet {

class PageWriter {
 public:
  // Maps the page behind `fd` and signs it with `incarnation`. kIo: it cannot be mapped.
  static Result<PageWriter> map(int fd, std::uint64_t incarnation);

  // A sign of life from the engine's thread, in the phase it is in.
  void tick(WorkerPhase phase);
  void count_step();
  void set_ready();    // hello was handed to the link
  void set_settled();  // the engine takes no further memory
  // Whom to ask about, should this process die now; the first BlackBox::kMaxRequests of them.
  void show_requests(std::span<const RequestId> held);

  WorkerPage& page() { return *page_; }  // for the fatal-signal handler

 private:
  struct Unmap {
    void operator()(WorkerPage* page) const;
  };
  explicit PageWriter(WorkerPage* page) : page_(page) {}

  std::unique_ptr<WorkerPage, Unmap> page_;
};

}  // namespace facet
