#include "tests/simulator/sim_watch.h"

#include <algorithm>

#include "common/shm/ledger.h"
#include "common/shm/ring.h"
#include "tests/simulator/sim_model.h"

namespace facet::sim {
namespace {

std::uint32_t priority_of(const RecordView& view) {
  return params_of(view.body).priority;
}

}  // namespace

void SimWatch::new_broker(std::span<const std::byte> ledger) {
  decoded_.clear();
  const auto scan = scan_ledger(ledger);
  if (!scan) return;
  for (const RecordView& view : scan->records) {
    if (view.progress.incarnation != 0) decoded_.insert(view.id);
  }
}

std::optional<std::string> SimWatch::decode_job(std::span<const std::byte> ledger,
                                                std::span<const std::byte> ring,
                                                const DecodeJob& job) {
  const auto& header = *reinterpret_cast<const RingHeader*>(ring.data());
  const auto slot = (job.encoded_offset - header.payload_offset) / kRingPageBytes;
  const auto scan = scan_ledger(ledger);
  if (!scan) return "the ledger cannot be read";
  const auto served =
      std::find_if(scan->records.begin(), scan->records.end(), [slot](const RecordView& view) {
        return view.state == RecordState::kLive &&
               std::any_of(view.images.begin(), view.images.end(),
                           [slot](const LedgerImage& image) { return image.slot == slot; });
      });
  if (served == scan->records.end()) return "a decode job of no request";
  if (!decoded_.insert(served->id).second || served->progress.strikes > 0) return std::nullopt;
  for (const RecordView& view : scan->records) {
    if (view.state == RecordState::kLive && !view.images.empty() && view.progress.strikes == 0 &&
        view.accepted < served->accepted && !decoded_.contains(view.id) &&
        priority_of(view) == priority_of(*served)) {
      return "request " + view.id.hex() + " waits for pixels and is overtaken";
    }
  }
  return std::nullopt;
}

std::set<RequestId> suspects_in(std::span<const std::byte> ledger) {
  std::set<RequestId> suspects;
  const auto scan = scan_ledger(ledger);
  if (!scan) return suspects;
  for (const RecordView& view : scan->records) {
    if (view.state == RecordState::kLive && view.progress.strikes > 0) suspects.insert(view.id);
  }
  return suspects;
}

std::optional<std::string> overdue(std::span<const std::byte> ledger, Nanos now) {
  const auto scan = scan_ledger(ledger);
  if (!scan) return "the ledger cannot be read";
  for (const RecordView& view : scan->records) {
    if (view.state == RecordState::kLive && view.deadline <= now) {
      return "I3: request " + view.id.hex() + " is not finished after its deadline";
    }
  }
  return std::nullopt;
}

}  // namespace facet::sim
