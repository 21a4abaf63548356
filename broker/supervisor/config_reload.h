// The configuration in effect while facetd runs, and putting another one in its place: all of it or
// nothing.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "broker/supervisor/supervisor_core.h"
#include "common/config/config.h"

namespace facet {

class ConfigReload {
 public:
  struct Doors {
    std::function<Result<Config>()> read;          // the operator's file
    std::function<Status(const Config&)> publish;  // to the children's file
    std::function<SupervisorRules(const Config&)> rules;
  };
  ConfigReload(Config in_effect, Doors doors);

  enum class Scope {
    kLive,     // what the running processes can take
    kRestart,  // also what new workers and a new broker take: a rolling restart follows
  };
  struct Outcome {
    bool is_good = false;
    std::vector<std::string> lines;      // each change, or each problem; the last one sums up
    std::optional<ConfigChanged> event;  // for the core, when something has changed
  };
  Outcome reload(Scope scope);

  // Back to what was in effect before the last reload for a restart; nothing where that is the
  // same.
  std::optional<ConfigChanged> restore();

  const Config& in_effect() const { return in_effect_; }
  std::uint32_t generation() const { return generation_; }  // of the one in effect; 1 at the start

 private:
  Result<ConfigChanged> put_in_effect(const Config& next, bool has_new_decoder);

  Config in_effect_;
  Config former_;
  Doors doors_;
  std::uint32_t generation_ = 1;
};

}  // namespace facet
