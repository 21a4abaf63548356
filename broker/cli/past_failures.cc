#include "broker/cli/past_failures.h"

#include <algorithm>
#include <map>

namespace facet {
namespace {

// As in a row's key: the hash of what the item's files hold now, or "unreadable".
std::string content_now(const BatchItem& item) {
  std::vector<std::shared_ptr<const std::string>> contents;
  for (const std::string& path : item.paths) {
    auto bytes = read_image(path, item.follow_links);
    if (!bytes) return "unreadable";
    contents.push_back(*std::move(bytes));
  }
  return content_hash(contents);
}

}  // namespace

Result<std::size_t> drop_failures(ResultFile& file, const BatchItems& items,
                                  const PromptOptions& options, const std::string& model,
                                  DropFailures which) {
  if (std::ranges::none_of(file.past(), &PastRow::has_failed)) return std::size_t{0};
  std::map<std::string, const BatchItem*> wanted;
  for (const BatchItem& item : items.items) {
    const auto request = make_request(options, item.prompt, item.paths.size(), Priority::kBatch);
    wanted.emplace(settings_hash(request, model) + item.image, &item);
  }
  std::map<const BatchItem*, std::string> contents;  // read once: one verdict for each row
  return file.drop([&](const PastRow& row) {
    if (!row.has_failed) return false;
    const auto found = wanted.find(row.key.settings + row.image);
    if (found == wanted.end()) return false;
    if (which == DropFailures::kAll) return true;
    std::string& content = contents[found->second];
    if (content.empty()) content = content_now(*found->second);
    return content != row.key.content;
  });
}

}  // namespace facet
