#include "broker/supervisor/config_reload.h"

#include <algorithm>
#include <utility>

#include "common/config/config_change.h"

namespace facet {
namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::size_t begin = 0;
  while (begin <= text.size()) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

ConfigReload::Outcome refused(std::vector<std::string> problems) {
  problems.push_back("refused: nothing has changed");
  return {false, std::move(problems), std::nullopt};
}

}  // namespace

ConfigReload::ConfigReload(Config in_effect, Doors doors)
    : in_effect_(std::move(in_effect)), former_(in_effect_), doors_(std::move(doors)) {}

Result<ConfigChanged> ConfigReload::put_in_effect(const Config& next, bool has_new_decoder) {
  FACET_TRY_STATUS(doors_.publish(next));
  in_effect_ = next;
  return ConfigChanged{doors_.rules(next), ++generation_, has_new_decoder};
}

ConfigReload::Outcome ConfigReload::reload(Scope scope) {
  const auto next = doors_.read();
  if (!next) return refused(lines_of(next.error().message));
  Outcome outcome{.is_good = true};
  std::vector<std::string> problems;
  bool has_new_decoder = false;
  for (const ConfigChange& change : config_changes(in_effect_, *next)) {
    outcome.lines.push_back(change.text());
    has_new_decoder = has_new_decoder || change.applies == Applies::kDecoder;
    if (change.applies == Applies::kDaemon) {
      problems.push_back(change.text() + ": only a restart of the daemon does that");
    } else if (change.applies == Applies::kRestart && scope == Scope::kLive) {
      problems.push_back(change.text() + ": only new processes take that: facet restart --rolling");
    }
  }
  if (!problems.empty()) return refused(std::move(problems));
  const Config before = std::exchange(former_, in_effect_);
  if (scope == Scope::kLive) former_ = before;
  const std::size_t count = outcome.lines.size();
  if (count > 0) {
    auto event = put_in_effect(*next, has_new_decoder);
    if (!event) return refused({event.error().message});
    outcome.event = *event;
  }
  const std::string number = "configuration " + std::to_string(generation_);
  outcome.lines.push_back(count == 0 ? "no change: " + number + " stays in effect"
                                     : number + " is in effect");
  return outcome;
}

std::optional<ConfigChanged> ConfigReload::restore() {
  const auto changes = config_changes(in_effect_, former_);
  if (changes.empty()) return std::nullopt;
  const bool has_new_decoder = std::any_of(changes.begin(), changes.end(), [](const auto& change) {
    return change.applies == Applies::kDecoder;
  });
  auto event = put_in_effect(former_, has_new_decoder);
  return event ? std::optional(*event) : std::nullopt;
}

}  // namespace facet
