// What the supervisor sees of one life of a worker beside its pidfd: the page (read only from
// here), the bell of its last words and the pipes of its sentinels (worker/service/sentinels.h).
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "broker/supervisor/supervisor_core.h"
#include "common/base/result.h"
#include "common/base/unique_fd.h"
#include "common/control/worker_page.h"

namespace facet {

class WorkerWatch {
 public:
  static Result<WorkerWatch> create();

  // {descriptor, number in the worker}: to be handed over, then closed here.
  std::vector<std::pair<int, int>> worker_fds() const;
  void close_handed_over();

  // What the page says now, as an event about `id`; a page not yet written by it is kStarting.
  PageSeen read(const ChildId& id) const;

  int bell() const { return bell_.get(); }  // readable once the worker has left last words
  void silence();                           // heard
  // Readable at their end only: the worker is dying. -1: was seen.
  std::array<int, 2> sentinels() const { return {sentinels_[0].get(), sentinels_[1].get()}; }
  void dismiss_sentinels();
  // What last words say, checked: a signal that the handler handles; nothing else is believed.
  std::optional<FatalSignal> last_words(const ChildId& id, std::uint32_t pid) const;
  // Phase and held requests at the end, for the log.
  std::string black_box() const;

  WorkerWatch() = default;

 private:
  struct Unmap {
    void operator()(const WorkerPage* page) const;
  };
  bool is_signed_by(const ChildId& id) const;

  UniqueFd page_fd_;
  UniqueFd bell_;
  std::array<UniqueFd, 2> sentinels_;
  std::array<UniqueFd, 2> sentinels_write_;
  std::unique_ptr<const WorkerPage, Unmap> page_;
};

}  // namespace facet
