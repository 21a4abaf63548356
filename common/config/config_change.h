// What differs between two configurations, and what it takes to put each difference in effect.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/config/config.h"

namespace facet {

// When a changed key counts.
enum class Applies {
  kLive,     // at once, in the running processes
  kDecoder,  // at once: the decoder is replaced, which nobody notices
  kRestart,  // in workers and brokers that start after it: a rolling restart
  kDaemon,   // when facetd starts
};

Applies applies(std::string_view key);

struct ConfigChange {
  std::string key;
  std::string before;  // as describe() writes it
  std::string after;
  Applies applies = Applies::kDaemon;
  std::string text() const { return key + ": " + before + " -> " + after; }
};

// In the order of configs/facet.toml.
std::vector<ConfigChange> config_changes(const Config& before, const Config& after);

}  // namespace facet
