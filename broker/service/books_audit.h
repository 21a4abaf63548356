// The verdict on the broker's books for `status`. An audit recounts all of them, which takes a
// millisecond or more: done for each question, a client that asks without end would have most of
// the broker's time.
#pragma once

#include <functional>
#include <string>
#include <utility>

#include "common/base/clock.h"
#include "common/base/result.h"

namespace facet {

class BooksAudit {
 public:
  explicit BooksAudit(std::function<Status()> audit) : audit_(std::move(audit)) {}

  // Empty, or the first discrepancy by name. Not older than kRest times what the audit took.
  const std::string& verdict() {
    const Nanos started = monotonic_now();
    if (started < due_) return verdict_;
    const Status conserved = audit_();
    verdict_ = conserved ? std::string() : conserved.error().message;
    const Nanos ended = monotonic_now();
    due_ = ended + kRest * (ended - started);
    return verdict_;
  }

  static constexpr Nanos kRest = 20;  // audits take at most a twentieth of the time

 private:
  std::function<Status()> audit_;
  Nanos due_ = 0;
  std::string verdict_;
};

}  // namespace facet
