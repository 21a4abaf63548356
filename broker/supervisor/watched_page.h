// The supervisor's view of one worker's page: made for one life of it, read only from here.
#pragma once

#include <memory>

#include "broker/supervisor/supervisor_core.h"
#include "common/base/result.h"
#include "common/base/unique_fd.h"
#include "common/control/worker_page.h"

namespace facet {

class WatchedPage {
 public:
  static Result<WatchedPage> create();

  int fd() const { return fd_.get(); }  // read-write, for the worker
  void close_fd() { fd_.reset(); }      // once the worker has it
  // What the page says now, as an event about `id`; a page not yet written by it is kStarting.
  PageSeen read(const ChildId& id) const;

  WatchedPage() = default;

 private:
  struct Unmap {
    void operator()(const WorkerPage* page) const;
  };
  UniqueFd fd_;
  std::unique_ptr<const WorkerPage, Unmap> page_;
};

}  // namespace facet
