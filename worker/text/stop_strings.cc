#include "worker/text/stop_strings.h"

#include <algorithm>
#include <utility>

namespace facet {
namespace {

std::vector<std::size_t> borders(std::string_view stop) {
  std::vector<std::size_t> border(stop.size() + 1, 0);
  for (std::size_t i = 1, length = 0; i < stop.size(); ++i) {
    while (length > 0 && stop[i] != stop[length]) length = border[length];
    if (stop[i] == stop[length]) ++length;
    border[i + 1] = length;
  }
  return border;
}

}  // namespace

StopStrings::StopStrings(std::vector<std::string> stops) {
  for (std::string& stop : stops) {
    if (stop.empty()) continue;
    auto fallback = borders(stop);
    watches_.push_back({std::move(stop), std::move(fallback), 0});
  }
}

std::string StopStrings::feed(std::string_view text) {
  if (stopped_) return {};
  std::size_t longest_partial = 0;
  for (const char byte : text) {
    held_ += byte;
    std::size_t longest_stop = 0;
    longest_partial = 0;
    for (Watch& watch : watches_) {
      while (watch.matched > 0 && watch.stop[watch.matched] != byte) {
        watch.matched = watch.fallback[watch.matched];
      }
      if (watch.stop[watch.matched] == byte) ++watch.matched;
      longest_partial = std::max(longest_partial, watch.matched);
      if (watch.matched == watch.stop.size()) {
        longest_stop = std::max(longest_stop, watch.stop.size());
      }
    }
    if (longest_stop > 0) {
      stopped_ = true;
      held_.resize(held_.size() - longest_stop);
      return std::exchange(held_, {});
    }
  }
  if (text.empty()) return {};
  std::string out = held_.substr(0, held_.size() - longest_partial);
  held_.erase(0, out.size());
  return out;
}

std::string StopStrings::finish() { return std::exchange(held_, {}); }

}  // namespace facet
