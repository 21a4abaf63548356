// Runs of consecutive rows of the encoder's output pool. First fit; runs are few and short-lived.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "common/base/result.h"

namespace facet {

class RowPool {
 public:
  explicit RowPool(std::int32_t total) : total_(total) {}

  std::int32_t total() const { return total_; }
  std::int32_t num_free() const { return total_ - used_; }

  std::optional<std::int32_t> acquire(std::int32_t count);  // the first row of a run, count > 0
  void release(std::int32_t first);                         // a row that acquire() returned

  Status check_all_free() const;

 private:
  std::int32_t total_;
  std::int32_t used_ = 0;
  std::map<std::int32_t, std::int32_t> runs_;  // in use: first row -> rows
};

}  // namespace facet
