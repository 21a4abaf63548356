#include "broker/core/recovery.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "broker/core/admission.h"
#include "broker/core/leases.h"
#include "broker/core/requests.h"
#include "broker/core/takeover.h"
#include "broker/core/users.h"
#include "broker/core/workers.h"
#include "common/base/crash_point.h"

namespace facet::core {
namespace {

constexpr std::uint32_t kMostBrokerStrikes = 2;  // deaths of brokers with this record in hand

Request request_of(const RecordView& view) {
  Request r;
  r.id = view.id;
  r.record = view.index;
  r.body_hash_high = view.body_hash_high;
  r.body_hash_low = view.body_hash_low;
  r.accepted = view.accepted;
  r.deadline = view.deadline;
  r.progress = view.progress;
  r.max_tokens = view.max_tokens;
  r.logprobs_per_token = view.logprobs_per_token;
  r.images.assign(view.images.begin(), view.images.end());
  r.child_faults.resize(r.images.size());
  r.user = view.user;
  for (const LedgerImage& image : r.images) r.owner_bytes += image.bytes;
  r.record_bytes = LedgerWriter::run_bytes(view);
  return r;
}

// The encoded images, which must lie in the ring as the record says.
Status adopt_images(CoreState& s, Request& r) {
  std::vector<std::uint32_t> slots;
  Status adopted;
  for (const LedgerImage& image : r.images) {
    adopted = s.ring.adopt(image.slot, image.generation, r.id, image.bytes);
    if (!adopted) break;
    slots.push_back(image.slot);
  }
  if (!slots.empty()) r.encoded = make_lease(s, std::move(slots));
  return adopted;
}

void recover_unfinished(CoreState& s, const Takeover& takeover, const RecordView& view,
                        bool was_handled) {
  Request r = request_of(view);
  if (was_handled) {
    ++r.progress.broker_strikes;
    s.ledger.set_progress(r.record, r.progress);
  }
  // From here on it is in hand again: its body may be what ends brokers.
  const Handling handling(s, r.record);
  FACET_CRASH_POINT("recovery.record");
  const bool is_quarantined = r.progress.broker_strikes >= kMostBrokerStrikes;
  const Status images = adopt_images(s, r);
  const auto request = is_quarantined ? Result<GenerateRequest>(GenerateRequest{})
                                      : s.seams.parse_request(view.body);
  const Priority priority = request ? request->priority : Priority::kInteractive;
  r.key = {take_round(s, r.user, priority), priority, s.next_sequence++};
  if (request) r.prompt_estimate = estimate_prompt(s, *request, r.images);
  Request& added = add_request(s, std::move(r));
  ++s.counters.recovered;
  start_timer(s, added, added.deadline);
  if (is_quarantined) {
    ++s.counters.quarantined;
    fail(s, added, Code::kQuarantined,
         std::to_string(added.progress.broker_strikes) + " brokers ended while they handled it");
  } else if (!request) {
    fail(s, added, Code::kInternal,
         "the request's record cannot be read: " + request.error().message);
  } else if (!images) {
    fail(s, added, Code::kInternal, "the request's images are lost: " + images.error().message);
  } else {
    place_request(s, added, takeover);
  }
}

void recover_terminal(CoreState& s, const RecordView& view) {
  Request r = request_of(view);
  r.phase = Phase::kTerminal;
  // Who was not told, or has not had its time since, asks this broker.
  const bool was_heard = view.terminal.told != 0 && view.terminal.told <= s.ledger.heard_before();
  r.kept_since = was_heard ? view.terminal.told : s.now;
  const Nanos least = was_heard ? 0 : s.now + s.limits.record_ttl_when_full;
  Request& added = add_request(s, std::move(r));
  start_timer(s, added, std::max(view.terminal.finished + s.limits.record_ttl, least));
  index_eviction(s, added);
}

}  // namespace

void recover(CoreState& s, const Takeover& takeover) {
  s.recovered_at = s.heard_since = s.now;
  if (s.ledger.heard_before() > s.now) s.ledger.set_heard_before(0);  // no clock of ours
  take_over_workers(s, takeover);
  const LedgerScan& scan = s.ledger.scan();
  FACET_CRASH_POINT("recovery.workers");
  std::vector<const RecordView*> records;
  for (const RecordView& view : scan.records) records.push_back(&view);
  // Acceptance order, so that the queue is what it was.
  std::sort(records.begin(), records.end(), [](const RecordView* a, const RecordView* b) {
    return std::pair(a->accepted, a->id) < std::pair(b->accepted, b->id);
  });
  std::vector<const RecordView*> unfinished;
  for (const RecordView* view : records) {
    if (view->state == RecordState::kTerminal)
      recover_terminal(s, *view);
    else
      unfinished.push_back(view);
  }
  for (const RecordView* view : unfinished) {
    recover_unfinished(s, takeover, *view, scan.handling == view->index);
  }
  inherit_pixels(s);
  FACET_CRASH_POINT("recovery.pixels");
  const std::size_t freed = s.ring.free_unadopted();
  FACET_CRASH_POINT("recovery.freed");
  // Of the living, those that are as good as dead: what they hold waits for their reaping.
  for (const WorkerDead& dead : takeover.deaths) {
    const bool is_known = dead.worker < s.workers.size();
    if (is_known && s.workers[dead.worker].status.incarnation == dead.incarnation) {
      worker_dead(s, dead);
    }
  }
  if (s.ledger.epoch() > 1 || scan.num_damaged > 0) {
    log(s, LogLine::Level::kInfo,
        "took over " + std::to_string(unfinished.size()) + " unfinished and " +
            std::to_string(records.size() - unfinished.size()) + " finished requests; " +
            std::to_string(scan.num_damaged) + " damaged records and " + std::to_string(freed) +
            " ring slots freed");
  }
  s.ledger.drop_scan();
}

}  // namespace facet::core
