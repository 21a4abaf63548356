// The worker's side of the page that tells which broker serves (common/control/broker_page.h).
#pragma once

#include <cstdint>
#include <memory>

#include "common/base/result.h"
#include "common/control/broker_page.h"

namespace facet {

class BrokerEpoch {
 public:
  // kIo: `fd` is no such page.
  static Result<BrokerEpoch> map(int fd);

  // 0: no broker serves.
  std::uint64_t now() const { return page_->epoch.load(std::memory_order_seq_cst); }

 private:
  struct Unmap {
    void operator()(const BrokerPage* page) const;
  };
  explicit BrokerEpoch(const BrokerPage* page) : page_(page) {}

  std::unique_ptr<const BrokerPage, Unmap> page_;
};

}  // namespace facet
