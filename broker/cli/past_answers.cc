#include "broker/cli/past_answers.h"

namespace facet {

PastAnswers::PastAnswers(const std::vector<PastRow>& rows, const std::vector<BatchItem>& items) {
  std::set<std::string> names;
  for (const BatchItem& item : items) names.insert(item.image);
  for (const PastRow& row : rows) {
    auto& counts =
        names.contains(row.image) ? own_[row.key.text() + row.image] : renamed_[row.key.text()];
    ++(row.has_failed ? counts.second : counts.first);
  }
}

PastAnswers::Found PastAnswers::use(Counts& counts, const std::string& key) {
  const auto found = counts.find(key);
  if (found == counts.end()) return Found::kNo;
  auto& [answered, failed] = found->second;
  if (answered > 0) {
    --answered;
    return Found::kAnswered;
  }
  if (failed == 0) return Found::kNo;
  --failed;
  return Found::kFailed;
}

PastAnswers::Found PastAnswers::take(const BatchItem& item, const RowKey& key) {
  const Found own = use(own_, key.text() + item.image);
  if (own != Found::kNo || key.content == "unreadable") return own;
  return use(renamed_, key.text());
}

}  // namespace facet
