// The supervisor's side of the page that tells workers which broker serves
// (common/control/broker_page.h).
#pragma once

#include <cstdint>
#include <memory>

#include "common/base/result.h"
#include "common/base/unique_fd.h"
#include "common/control/broker_page.h"

namespace facet {

class BrokerPageWriter {
 public:
  static Result<BrokerPageWriter> create();
  BrokerPageWriter() = default;

  void publish(std::uint64_t epoch);
  int worker_fd() const { return read_only_.get(); }  // O_RDONLY

 private:
  struct Unmap {
    void operator()(BrokerPage* page) const;
  };

  UniqueFd read_only_;
  std::unique_ptr<BrokerPage, Unmap> page_;
};

}  // namespace facet
