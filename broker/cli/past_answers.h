// Which items an earlier run has answered.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "broker/cli/batch_row.h"

namespace facet {

class PastAnswers {
 public:
  PastAnswers(const std::vector<PastRow>& rows, const std::vector<BatchItem>& items);

  enum class Found { kNo, kAnswered, kFailed };
  // Uses up one row: the item's own if there is one, else one of the same content under a name that
  // this batch does not have (a file that was renamed). So each row stands for one item.
  Found take(const BatchItem& item, const RowKey& key);

 private:
  using Counts = std::map<std::string, std::pair<std::size_t, std::size_t>>;  // answered, failed
  static Found use(Counts& counts, const std::string& key);

  Counts own_;      // key + image
  Counts renamed_;  // key
};

}  // namespace facet
