// Stop strings: the output ends before the first one that appears in it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace facet {

// Watches text as it streams. A pure function of the text fed, however it is cut: the first stop
// string to be complete ends the output (of several complete at the same byte, the longest), and
// neither it nor what follows is emitted.
class StopStrings {
 public:
  // Empty stop strings are ignored. Counts and lengths are bounded at admission.
  explicit StopStrings(std::vector<std::string> stops);

  // The text that can be emitted: all but the longest tail that could begin a stop string. Text
  // fed in whole characters comes out in whole characters. Empty once stopped.
  std::string feed(std::string_view text);

  // The end of the text: what was held.
  std::string finish();

  bool stopped() const { return stopped_; }

 private:
  struct Watch {
    std::string stop;
    std::vector<std::size_t> fallback;  // Knuth-Morris-Pratt: longest border of each prefix
    std::size_t matched = 0;            // bytes of `stop` that the text ends with
  };

  std::vector<Watch> watches_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace facet
