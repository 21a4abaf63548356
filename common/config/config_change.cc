#include "common/config/config_change.h"

#include <array>

#include "common/config/config_schema.h"

namespace facet {
namespace {

struct Rule {
  std::string_view prefix;  // the longest that fits a key counts
  Applies applies;
};

constexpr std::array kRules = {
    // Another model contradicts what was said of an unfinished answer.
    Rule{"model.", Applies::kDaemon},
    Rule{"worker.", Applies::kRestart},
    Rule{"worker.engine", Applies::kDaemon},
    Rule{"worker.count", Applies::kDaemon},  // ring, ledger and supervisor are laid out for it
    Rule{"worker.gpus", Applies::kDaemon},
    // A shorter one ends requests that were accepted for the longer one.
    Rule{"worker.max_model_len", Applies::kDaemon},
    Rule{"broker.", Applies::kLive},
    Rule{"broker.runtime_dir", Applies::kDaemon},
    Rule{"broker.socket", Applies::kDaemon},
    // Descriptor and memory limits of the process.
    Rule{"broker.max_clients", Applies::kRestart},
    Rule{"broker.max_clients_per_user", Applies::kRestart},
    Rule{"broker.memory_bytes", Applies::kRestart},
    Rule{"ring.", Applies::kDaemon},
    Rule{"ledger.", Applies::kDaemon},
    Rule{"decoder.", Applies::kDecoder},
    Rule{"supervisor.", Applies::kLive},
    Rule{"log.", Applies::kDaemon},
    Rule{"log.level", Applies::kLive},
};

}  // namespace

Applies applies(std::string_view key) {
  const Rule* best = nullptr;
  for (const Rule& rule : kRules) {
    const bool is_section = rule.prefix.ends_with('.');
    const bool fits = is_section ? key.starts_with(rule.prefix) : key == rule.prefix;
    if (fits && (best == nullptr || rule.prefix.size() > best->prefix.size())) best = &rule;
  }
  return best == nullptr ? Applies::kDaemon : best->applies;
}

std::vector<ConfigChange> config_changes(const Config& before, const Config& after) {
  Config old_copy = before;  // the tables point to fields that may be written
  Config new_copy = after;
  const std::vector<ConfigKey> old_keys = config_keys(old_copy);
  const std::vector<ConfigKey> new_keys = config_keys(new_copy);
  std::vector<ConfigChange> changes;
  for (std::size_t i = 0; i < old_keys.size(); ++i) {
    ConfigChange change{std::string(old_keys[i].name), value_text(old_keys[i]),
                        value_text(new_keys[i]), applies(old_keys[i].name)};
    if (change.before != change.after) changes.push_back(std::move(change));
  }
  return changes;
}

}  // namespace facet
